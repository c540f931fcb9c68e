"""The engine against plain PyTorch: full forward passes with hooks, no cache, no padding, no shared prefix."""

from __future__ import annotations

import gc
import resource
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import psutil
import pytest
import torch

from emolib.engine.edits import Add, Edit, Mean, Noise, Patch, ProjectOut, Zero
from emolib.engine.engine import Engine, batches, text_bytes, token_ids
from emolib.engine.layouts import unwrap
from emolib.engine.model import Model
from emolib.engine.oracle import plain
from emolib.engine.sites import COMPONENTS, Component, span_layers
from emolib.engine.sweeps import sweep
from emolib.engine.tiny import tiny_model as tiny_model_on
from helpers import DEVICE, TINY_WORDS, word_tokenizer

TEXTS = ["The bus left early.", "Ok so", "Someone took the last seat on the train to the coast and did not look up."]
PROMPTS = [f"Name it. Context: My dog ran. Answer: joy Context: {text} Answer:" for text in TEXTS]
tiny_model = partial(tiny_model_on, device=DEVICE)
ROWS = [1, 0, 2]  # texts of three lengths: all but the longest are padded in one batch
LABELS = torch.tensor([70, 71, 75, 90, 100])
TOLERANCE = 1e-4


def operations(model) -> dict[str, object]:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    layers, width = model.n_layers, model.width
    return {
        "zero": Zero(),
        "noise": Noise(3),
        "mean": Mean({component: draw(layers, width) for component in COMPONENTS}),
        "patch": Patch({c: draw(layers, len(TEXTS), width) for c in COMPONENTS}, torch.tensor([2, 0, 1])),
        "add": Add(draw(layers, width), 2.0),
        "project": ProjectOut(draw(layers, 2, width)),
    }


# Norms before and behind sub-layers, windows, caps, layers that return tuples, and states that are no cache.
@pytest.fixture(scope="module", params=["llama", "gemma2", "gptj", "lfm2"])
def model(request):
    return tiny_model(request.param)


def plain_of_all(model: Model, edits: Sequence[Edit | None]) -> torch.Tensor:
    """The oracle [n_texts, n_edits, n_labels], in the order of PROMPTS."""
    rows = range(len(PROMPTS))
    return torch.stack([torch.stack([plain(model, PROMPTS[row], e, LABELS, row=row) for e in edits]) for row in rows])


def assert_equal(model, engine, edits, *, method="replay", expected=None):
    """A single text (nothing padded) and a batch of three lengths give what plain passes give."""
    expected = plain_of_all(model, edits) if expected is None else expected
    # In the last layer nothing is read from earlier tokens any more; everywhere else an edit must show.
    acts = [edit.position in (-1, "all") or edit.layers[0] < model.n_layers - 1 for edit in edits]
    effect = (expected - plain_of_all(model, [None])).abs().amax(dim=(0, 2))
    assert effect[acts].min() > 5 * TOLERANCE, "an edit does nothing: the test is blind"
    for rows in ([0], ROWS):
        found = engine.replay(engine.encode(rows), edits) if method == "replay" else engine.forward(rows, edits)
        worst = (found - expected[rows]).abs().max().item()
        assert worst < TOLERANCE, f"{model.name}: max |Δ logit| {worst}"


@pytest.fixture(scope="module")
def site_edits(model):
    """Every component, layer and kept position, spans of three, and what plain passes give for them."""
    kinds = operations(model)
    edits = [
        Edit(component=component, layers=(layer,), operation=kinds["noise"], position=position)
        for component in COMPONENTS
        for layer in range(model.n_layers)
        for position in range(-5, 0)
    ]
    edits += [
        Edit(component=component, layers=span_layers(centre, 3, model.n_layers), operation=kinds["add"])
        for component in COMPONENTS
        for centre in (1, 2)
    ]
    return edits, plain_of_all(model, edits)


@pytest.mark.parametrize("prefix", ["shared", "none"])
def test_clean_logits_equal_plain_transformers(model, prefix):
    engine = Engine(model, PROMPTS, LABELS, prefix=prefix)
    assert (len(engine.prefix) > 20) == (prefix == "shared" and not model.obstacle)
    assert (engine.encode(ROWS).logits - plain_of_all(model, [None])[ROWS, 0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("prefix", ["shared", "none"])
def test_every_site_and_span_replays_exactly(model, site_edits, prefix):
    edits, expected = site_edits
    assert_equal(model, Engine(model, PROMPTS, LABELS, keep=5, prefix=prefix), edits, expected=expected)


def test_every_operation_in_one_batch(model):
    engine = Engine(model, PROMPTS, LABELS, keep=2)
    edits = [
        Edit(component=component, layers=(1, 2), operation=operation, position=position)
        for operation in operations(model).values()
        for component in COMPONENTS
        for position in (-1, -2)
    ]
    assert_equal(model, engine, edits)


def test_edits_of_all_positions_use_the_full_pass(model):
    engine = Engine(model, PROMPTS, LABELS)
    kinds = operations(model)
    edits = [
        Edit(component=component, layers=(1,), operation=kinds[kind], position="all")
        for component in COMPONENTS
        for kind in ("zero", "noise")
    ]
    edits.append(Edit(component="mlp_out", layers=(0, 1, 2), operation=kinds["add"], position=-2))
    assert_equal(model, engine, edits, method="forward")


def test_span_of_five_layers():
    model = tiny_model("llama", num_hidden_layers=6)
    engine = Engine(model, PROMPTS, LABELS)
    edits = [Edit(component=c, layers=span_layers(2, 5, 6), operation=Zero()) for c in COMPONENTS]
    edits += [Edit(component=c, layers=span_layers(3, 5, 6), operation=Noise(1)) for c in COMPONENTS]
    assert_equal(model, engine, edits)


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_module_tap_of_post_norm_families(family):
    model = tiny_model(family, tap="module")
    edits = [Edit(component=c, layers=(1, 2), operation=op) for c in COMPONENTS for op in operations(model).values()]
    assert_equal(model, Engine(model, PROMPTS, LABELS), edits)


def hooked_outputs(model: Model, row: int) -> dict[tuple[Component, int], torch.Tensor]:
    """Outputs [5, d] at the last five tokens of every site, by hooks in a plain pass."""
    seen = {}

    def keep(site):
        return lambda _module, _args, output: seen.update({site: unwrap(output)[0, -5:].clone()})

    handles = [
        module.register_forward_hook(keep((component, layer)))
        for component in COMPONENTS
        for layer, module in enumerate(model.modules(component, view=model.hf))
    ]
    plain(model, PROMPTS[row])
    for handle in handles:
        handle.remove()
    return seen


def test_reading_equals_hooks_and_adds_up(model):
    engine = Engine(model, PROMPTS, LABELS, keep=5)
    encoding = engine.encode([1, 0, 2], read=COMPONENTS)
    for index, row in enumerate([1, 0, 2]):
        seen = hooked_outputs(model, row)
        for (component, layer), expected in seen.items():
            assert torch.allclose(encoding.activations[component][layer, index], expected, atol=1e-3)
    total = encoding.resid_pre + encoding.activations["attn_out"] + encoding.activations["mlp_out"]
    assert torch.allclose(total, encoding.activations["resid_post"], atol=1e-3)


def read_by_hook(model: Model, row: int, edit: Edit, component: Component, layer: int) -> torch.Tensor:
    """A component at the last token [d] in a plain pass with an edit, whose own hooks come first."""
    seen = []

    def keep(operation):
        def watched(activation, where):
            new = operation(activation, where) if where.layer in edit.layers and component == edit.component else None
            seen.append(activation if new is None else new)
            return seen[-1]

        return watched

    if component == edit.component and layer in edit.layers:  # the edit itself says what it leaves behind
        plain(model, PROMPTS[row], replace(edit, operation=keep(edit.operation)), row=row)
        return seen[edit.layers.index(layer)][0]
    module = model.modules(component, view=model.hf)[layer]
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(unwrap(output)[0, -1].clone()))
    plain(model, PROMPTS[row], edit, row=row)
    handle.remove()
    return seen[0]


def test_what_is_read_under_edits_equals_hooks(model):
    kinds, last = operations(model), model.n_layers - 1
    edits = [
        Edit(component="resid_post", layers=(0, 1), operation=kinds["add"]),
        Edit(component="attn_out", layers=(1,), operation=kinds["noise"], position=-3),
        Edit(component="mlp_out", layers=(0,), operation=kinds["zero"]),
        Edit(component="resid_post", layers=(1,), operation=kinds["patch"]),
    ]
    engine = Engine(model, PROMPTS, LABELS, keep=3)
    for rows in ([0], ROWS):
        encoding = engine.encode(rows, read=COMPONENTS)
        for component, layer in (("resid_post", 1), ("resid_post", last), ("attn_out", last), ("mlp_out", 2)):
            found = engine.read_under(encoding, edits, component, layer)
            assert found.shape == (len(rows), len(edits), model.width)
            for index, row in enumerate(rows):
                for column, edit in enumerate(edits):
                    expected = read_by_hook(model, row, edit, component, layer)
                    assert (found[index, column] - expected).abs().max() < 1e-3, (component, layer, edit)
            clean = encoding.activations[component][layer][:, None, -1]
            moved = (found - clean).abs().amax(dim=(0, 2)) > 0.01
            # the last token looks back at the edited one a layer later at the earliest
            assert moved[[0, 2, 3]].all() and (moved[1] or (component, layer) != ("resid_post", last))
    with pytest.raises(ValueError, match="an edit begins at layer 1 and layer 0 is to be read, which is as it was"):
        engine.read_under(engine.encode([0]), edits, "resid_post", 0)
    with pytest.raises(ValueError, match="position -5 cannot be replayed"):
        engine.read_under(engine.encode([0]), [replace(edits[0], position=-5)], "resid_post", last)


def test_identity_and_repeated_replay_leave_the_clean_logits(model):
    engine = Engine(model, PROMPTS, LABELS, keep=3)
    encoding = engine.encode([0, 1, 2])
    keep = Edit(component="attn_out", layers=(0, 3), operation=lambda activation, where: activation, position=-3)
    zero = Edit(component="mlp_out", layers=(0,), operation=Zero(), position=-3)
    first = engine.replay(encoding, [keep, zero])
    assert (first[:, 0] - encoding.logits).abs().max() < TOLERANCE
    assert (first[:, 1] - encoding.logits).abs().max() > 10 * TOLERANCE
    assert torch.equal(engine.replay(encoding, [keep, zero]), first)


def test_resid_post_overwrites_make_the_span_vacuous(model):
    engine = Engine(model, PROMPTS, LABELS)
    encoding = engine.encode([0, 1])
    patch = operations(model)["patch"]
    wide, last = (Edit(component="resid_post", layers=layers, operation=patch) for layers in ((0, 1, 2), (2,)))
    assert torch.equal(*engine.replay(encoding, [wide, last]).unbind(1))


def test_patching_everything_gives_the_source(model):
    engine = Engine(model, PROMPTS, LABELS)
    encoding = engine.encode([0, 1], read=COMPONENTS)
    swap = Patch({c: values[:, :, -1] for c, values in encoding.activations.items()}, torch.tensor([1, 0]))
    edit = Edit(component="resid_post", layers=(model.n_layers - 1,), operation=swap)
    assert torch.allclose(engine.replay(encoding, [edit])[:, 0], encoding.logits.flip(0), atol=TOLERANCE)


def test_more_edits_than_columns_fit_at_once():
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS, LABELS)
    vectors = torch.randn(35, model.n_layers, model.width, generator=torch.Generator().manual_seed(0))
    edits = [Edit(component="resid_post", layers=(1, 2), operation=Add(v, 1.0)) for v in vectors]
    assert_equal(model, engine, edits)


def test_whole_label_log_probability(model):
    engine = Engine(model, PROMPTS, LABELS)
    sequences = [[70], [80, 81], [90, 70, 65, 72]]
    found = engine.continuations(engine.encode([1, 0]), sequences)
    for index, row in enumerate((1, 0)):
        for column, sequence in enumerate(sequences):
            ids = model.tokenizer(PROMPTS[row])["input_ids"] + sequence
            with torch.no_grad():
                steps = model.hf(torch.tensor([ids], device=model.device)).logits[0].log_softmax(-1)
            expected = sum(steps[len(ids) - len(sequence) - 1 + i, token] for i, token in enumerate(sequence))
            assert abs(found[index, column] - expected) < TOLERANCE


def test_prompts_that_go_on_equal_whole_prompts(model):
    engine = Engine(model, PROMPTS, LABELS)
    endings = [[[70], [80, 81, 95], [90] * 40], [[72, 73], [81], [91, 60] * 9], [[74], [82, 70, 71, 99], [92]]]
    for rows in ([0], ROWS):
        found = engine.follow(rows, [endings[row] for row in rows])
        for index, row in enumerate(rows):
            for column, ending in enumerate(endings[row]):
                whole = plain(model, [*engine.ids[row], *ending], None, LABELS)
                assert (found[index, column] - whole).abs().max() < TOLERANCE
    many = [[[number + 60, 61]] * 20 for number in range(3)]  # more than are run at once
    assert torch.allclose(engine.follow(ROWS, many)[:, :1], engine.follow(ROWS, many)[:, 19:], atol=TOLERANCE)


def test_greedy_equals_generate(model):
    engine = Engine(model, PROMPTS, LABELS)
    found = engine.greedy(engine.encode([0, 2]), 4)
    for index, row in enumerate((0, 2)):
        ids = torch.tensor([model.tokenizer(PROMPTS[row])["input_ids"]], device=model.device)
        for _ in range(4):
            with torch.no_grad():
                ids = torch.cat([ids, model.hf(ids).logits[:, -1:].argmax(-1)], 1)
        assert found[index].tolist() == ids[0, -4:].tolist()


def test_batches_cover_every_text_once_within_the_budget():
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS * 7, LABELS, max_texts=3)
    found = engine.batches()
    assert sorted(row for batch in found for row in batch) == list(range(21))
    assert max(map(len, found)) == 3
    assert all(len(batch) == 1 for batch in Engine(model, PROMPTS, LABELS, memory_bytes=1).batches())


def test_a_batch_costs_no_more_than_its_budget_and_the_next_text_would():
    lengths, costs = {7: 3, 2: 5, 9: 3, 4: 8, 1: 5}, {3: 10, 5: 20, 8: 50}
    assert batches(lengths, costs, most=40, max_texts=9) == [[7, 9], [1, 2], [4]]
    assert batches(lengths, costs, most=60, max_texts=9) == [[7, 9, 1], [2], [4]]
    assert batches(lengths, costs, most=60, max_texts=2) == [[7, 9], [1, 2], [4]]


def test_memory_of_a_text_counts_what_stays_and_what_a_layer_works_with():
    model = tiny_model("llama")
    heads, size = 2, 12
    short, long = (text_bytes(model, length, run=10, keep=1) for length in (40, 50))
    # ten more tokens in the cache: their keys and values in each layer, and a mask of ten more columns
    assert long - short == 4 * (2 * model.n_layers * heads * size * 10 + 10 * 10)
    assert text_bytes(model, 40, run=10, keep=3) - short == 4 * 2 * 4 * model.n_layers * model.width
    assert text_bytes(model, 40, run=20, keep=1) > short


@pytest.mark.parametrize(
    ("layers", "position", "message"),
    [
        ((4,), -1, "layer 4 is outside tiny-llama: it has layers 0..3"),
        ((1,), -2, "keeps -1..-1"),
        ((1,), "all", "use forward"),
    ],
)
def test_what_cannot_be_replayed_is_refused(layers, position, message):
    engine = Engine(tiny_model("llama"), PROMPTS, LABELS)
    edit = Edit(component="mlp_out", layers=layers, operation=Zero(), position=position)
    with pytest.raises(ValueError, match=message):
        engine.replay(engine.encode([0]), [edit])


def test_a_batch_that_does_not_fit_into_memory_is_halved(capsys):
    """With memory that runs out for real: half of the texts, then, with less, not even one of them."""
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS[:1] * 8, LABELS)
    # Address space only, none of it is touched; much of it, since threads of tests before give back theirs meanwhile.
    expected, each = engine.encode(range(8)).logits, 2**30

    def read(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        assert torch.empty(len(rows), each, dtype=torch.uint8).numel()
        return {"logits": engine.encode(rows).logits, "by": torch.zeros(2, len(rows))}

    with memory(6 * each):
        found = engine.in_parts(range(8), read, {"by": 1})
    assert torch.allclose(found["logits"], expected, atol=1e-6) and found["by"].shape == (2, 8)
    assert capsys.readouterr().err == "8 texts at once need more memory than there is: now 4\n"
    with memory(each // 8), pytest.raises(RuntimeError, match="allocate"):
        engine.in_parts(range(8), read)


def test_what_a_part_that_did_not_fit_has_left_is_gone_before_the_next() -> None:
    """It may have been what the part had no room beside: the same texts are tried once more, then half of them."""
    engine, left, there, tried = Engine(tiny_model("llama"), PROMPTS[:1] * 8, LABELS, max_texts=4), [], [], []

    def read(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        tried.append(len(rows))
        there.append(sum(one() is not None for one in left))
        cycle: list[object] = [values := torch.zeros(4)]
        cycle.append(cycle)
        left.append(weakref.ref(values))
        if len(tried) in (1, 3, 4):
            raise torch.OutOfMemoryError("out of memory")
        return {"rows": torch.tensor(rows)}

    gc.disable()
    try:
        found = engine.in_parts(range(8), read)
    finally:
        gc.enable()
    assert found["rows"].tolist() == [*range(8)]
    assert tried == [4, 4, 4, 4, 2, 2] and there == [0, 0, 1, 0, 0, 1]


def test_an_error_that_is_no_lack_of_memory_is_not_hidden():
    engine = Engine(tiny_model("llama"), PROMPTS, LABELS)
    tried: list[int] = []

    def wrong(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        tried.append(len(rows))
        return {"sum": torch.ones(2) + torch.ones(3)}

    with pytest.raises(RuntimeError, match="must match the size"):
        engine.in_parts(ROWS, wrong)
    assert tried == [len(ROWS)], "fewer texts would not have helped"


@contextmanager
def memory(more: int) -> Iterator[None]:
    """At most `more` bytes of address space beyond what this process has."""
    gc.collect()  # what tests before have left would be given back meanwhile, and be room
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# Long prompts.

ROPE = {"rope_theta": 10000.0, "factor": 4.0}
FACTORS = {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
TRAINED = {"original_max_position_embeddings": 80}
# Settings of a family, and how many tokens it then has room for. None of these would be exact beyond: no position, or
# another frequency or scale for all that is long, also for what is in the cache.
ROOMS = {
    "learned": ("gpt2", {"max_position_embeddings": 80}, 80),
    "rotary": ("llama", {"max_position_embeddings": 80}, 80),
    "dynamic": ("llama", {"max_position_embeddings": 80, "rope_parameters": ROPE | {"rope_type": "dynamic"}}, 80),
    "longrope": ("phi3", {"rope_parameters": ROPE | FACTORS | TRAINED | {"rope_type": "longrope"}} | TRAINED, 80),
    "scaled": ("llama4_text", {"floor_scale": 120, "attn_scale": 1.0}, 88),
}
# Those that are exact beyond what they were trained on.
ROOMY = {
    "linear": ("llama", {"rope_parameters": ROPE | {"rope_type": "linear"}}),
    "yarn": ("llama", {"rope_parameters": ROPE | TRAINED | {"rope_type": "yarn"}}),
    "llama3": (
        "llama",
        {"rope_parameters": ROPE | TRAINED | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
    ),
    "scaled": ("ministral3", {"rope_parameters": ROPE | TRAINED | {"rope_type": "yarn", "llama_4_scaling_beta": 0.5}}),
    "a window that Llama does not have": ("llama", {"sliding_window": 24}),
    "nor Moshi": ("moshi", {"sliding_window": 24}),
}


def long_prompts(length: int) -> list[str]:
    """Two prompts that begin alike, of 30 tokens and of `length`, one token a letter and one before them."""
    letters = "Context: " + "My dog lost the train again, and that was that. " * 30
    return [letters[:29], letters[: length - 1]]


@pytest.mark.parametrize(
    ("family", "settings", "length"), [*ROOMS.values(), *((*row, 300) for row in ROOMY.values())], ids=[*ROOMS, *ROOMY]
)
def test_prompts_as_long_as_there_is_room_are_exact(family: str, settings: dict[str, object], length: int) -> None:
    model, prompts = tiny_model(family, **settings), long_prompts(length)
    edits = [None, *sweep(Noise(0), model, layers=[1]), *sweep(Zero(), model, layers=[2], position=-2)]
    engine = Engine(model, prompts, LABELS, keep=2)
    assert [len(ids) for ids in engine.ids] == [30, length] and not model.obstacle
    encoding = engine.encode([0, 1])
    found = torch.cat([encoding.logits[:, None], engine.replay(encoding, edits[1:])], 1)
    hooked = [[plain(model, prompts[row], edit, LABELS, row=row) for edit in edits] for row in (0, 1)]
    expected = torch.stack([torch.stack(row) for row in hooked])
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@pytest.mark.parametrize(("family", "settings", "room"), ROOMS.values(), ids=ROOMS)
def test_a_prompt_that_there_is_no_room_for_is_refused(family: str, settings: dict[str, object], room: int) -> None:
    model = tiny_model(family, **settings)
    said = rf"the prompt of row 1 has {room + 1} tokens, up to 0 are .* the model has room for {room} \(1 of 2 prompts"
    with pytest.raises(ValueError, match=said):
        Engine(model, long_prompts(room + 1), LABELS)
    engine = Engine(model, long_prompts(room), LABELS)
    with pytest.raises(ValueError, match=rf"the prompt of row 1 has {room} tokens, up to 1 are put behind it"):
        engine.greedy(engine.encode([0, 1]), 2)
    assert engine.greedy(engine.encode([0]), 2).shape == (1, 2)


def test_many_prompts_are_read_some_at_a_time_and_share_their_tokens() -> None:
    tokenizer, asked = word_tokenizer(), []

    def reading(texts: list[str]) -> Any:
        asked.append(len(texts))
        return tokenizer(texts)

    prompts: list[str | list[int]] = [f"train garden {word}" for word in TINY_WORDS] * 60
    prompts[7] = [300, 5]
    found = token_ids(reading, prompts)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    expected = iter(tokenizer(texts)["input_ids"])
    assert found == [next(expected) if isinstance(prompt, str) else prompt for prompt in prompts]
    assert sum(asked) == len(texts) and len(asked) > 2 and max(asked) <= 1000
    large = [[int("1000"), int("1000")], [int("1000")]]  # of small ones Python has one anyway
    assert len({id(token) for prompt in token_ids(reading, large) for token in prompt}) == 1


def test_prompts_may_be_token_ids(model: Model) -> None:
    ids = model.tokenizer(PROMPTS)["input_ids"]
    mixed = Engine(model, [ids[0], PROMPTS[1], tuple(ids[2])], LABELS)
    assert mixed.ids == ids
    assert torch.equal(plain(model, ids[1]), plain(model, PROMPTS[1]))
    with pytest.raises(
        ValueError, match="the prompt of row 1 has token 258, and the model has 258 embeddings: its tok"
    ):
        Engine(model, [ids[0], [1, 258]], LABELS)
