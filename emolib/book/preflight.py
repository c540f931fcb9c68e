"""The model of a run, tried once before many notebooks fail on it one by one: `python -m emolib.book.preflight FILE`.

A process of its own, so that the memory is free again. With `--elsewhere` behind it, where jobs are sent to other
machines, only what needs no weights and no device is tried. What the model cannot be asked is left in runs/<slug>.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from emolib.book.disk import require_space
from emolib.book.run import UNABLE
from emolib.engine import places
from emolib.engine.loading import load
from emolib.experiments.attention.reading import check_readable
from emolib.study.clean import cache_bytes
from emolib.study.run import Run
from emolib.study.study import Study


class Enough(Exception):
    """Configuration and tokenizer were read."""


def check(run: Run, root: Path, *, elsewhere: bool) -> dict[str, str]:
    """Return why each experiment that the model does not allow is so, when it loads, passes its checks and can be
    asked, and what it computes has room.

    Raises what loading raises, and OSError without that room.
    """
    if elsewhere or run.remote:

        def stop(*read: object) -> None:
            raise Enough

        try:
            load(run.model, dtype=run.dtype, device="cpu", tap=run.tap, accept=stop)
        except Enough:
            return {}
    study = Study(run, folder=root)
    model = study.model
    study.prompt  # noqa: B018  # a chat has its template applied here
    item = next(model.hf.parameters()).element_size()
    require_space(
        root, "cache", cache_bytes(len(study.events), model.n_layers, len(model.components), model.width, item)
    )
    try:
        check_readable(model)
    except ValueError as error:
        return {"attention": str(error)}
    return {}


def main(arguments: list[str]) -> int:
    """Return 0 when the model can be used, 2 after saying why not."""
    parameters = Path(arguments[0])
    try:
        unable = check(Run(**json.loads(parameters.read_text())), Path.cwd(), elsewhere="--elsewhere" in arguments)
        places.replace_text(parameters.with_name(UNABLE), json.dumps(unable))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"emolib: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
