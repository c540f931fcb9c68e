"""emolib: where in a language model the emotion of a described event is, what causes it, and how appraisals steer it.

    import emolib as el

    model = el.load("smollm2-135m")
    engine = el.Engine(model, prompts, answers=["joy", "sadness"])
    sweep = el.sweep(el.Zero(), model, components=["attn_out"], span=3)
    logits = engine.replay(engine.encode(), sweep)  # [text, edit, answer]

The packages from the bottom up; each imports only from those before its line (`make lint` checks it):

- `engine` loads models and runs them, `encode` once and `replay` every edit; `stats` puts intervals on numbers
- `texts` are corpora, prompts and control tasks; `tables` the schemas of results and the paper's published values
- `probes` read activations; `study` ties model, texts and cache to a run; `figures` draw
- `interventions`: patching and steering, as several experiments use them
- `experiments`: one package for each section of the paper
- `paper`: its claims and errata against what was measured
- `book` and `cli`: the pages and the commands

Importing this package loads none of them: every name is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
