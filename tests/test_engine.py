"""The engine against plain PyTorch: one full forward pass per edit, hooks, no cache, no padding, no shared prefix."""

from __future__ import annotations

import pytest
import torch

from emolib.edits import Add, Edit, Mean, Noise, Patch, ProjectOut, Where, Zero
from emolib.engine import Engine
from emolib.models import unwrap
from emolib.sites import COMPONENTS, span_layers
from emolib.tiny import FAMILIES, tiny_model

TEXTS = ["The bus left early.", "We won!", "Someone took the last seat on the train to the coast and did not look up.", "Ok so"]
PROMPTS = [f"Name it. Context: My dog ran. Answer: joy Context: {text} Answer:" for text in TEXTS]
LABELS = torch.tensor([70, 71, 75, 90, 100])
TOLERANCE = 2e-3


def plain_logits(model, prompt: str, row: int, edit: Edit | None) -> torch.Tensor:
    """Label logits by the simplest code: one unpadded prompt, one forward pass, hooks that return a new tensor."""
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    handles = []
    for layer in edit.layers if edit else ():
        def hook(_module, _args, output, layer=layer):
            new = unwrap(output).clone()
            places = range(ids.shape[1]) if edit.position == "all" else [ids.shape[1] + edit.position]
            for place in places:
                where = Where(layer, edit.component, torch.tensor([row]), torch.tensor([place]))
                new[:, place] = edit.operation(new[:, place], where)
            return new if isinstance(output, torch.Tensor) else (new, *output[1:])
        handles.append(model.modules(edit.component, view=model.hf)[layer].register_forward_hook(hook))
    try:
        with torch.no_grad():
            return model.hf(ids).logits[0, -1, LABELS].float()
    finally:
        for handle in handles:
            handle.remove()


def operations(model) -> dict[str, object]:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    layers, width = model.n_layers, model.width
    return {
        "zero": Zero(),
        "noise": Noise(3),
        "mean": Mean({component: draw(layers, width) for component in COMPONENTS}),
        "patch": Patch({c: draw(layers, len(TEXTS), width) for c in COMPONENTS}, torch.tensor([2, 0, 3, 1])),
        "add": Add(draw(layers, width), 2.0),
        "project": ProjectOut(draw(layers, 2, width)),
    }  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return tiny_model(request.param)


def assert_equal(model, engine, edits, *, method="replay"):
    for rows in ([0], [3, 1, 0, 2]):
        if method == "replay":
            found = engine.replay(engine.encode(rows), edits)
        else:
            found = engine.forward(rows, edits)
        expected = torch.stack([torch.stack([plain_logits(model, PROMPTS[r], r, e) for e in edits]) for r in rows])
        worst = (found - expected).abs().max().item()
        assert worst < TOLERANCE, f"{model.name}: max |Δ logit| {worst}"


def test_clean_logits_equal_plain_transformers(model):
    for prefix in ("shared", "none"):
        engine = Engine(model, PROMPTS, LABELS, prefix=prefix)
        assert (len(engine.prefix) > 20) == (prefix == "shared")
        encoding = engine.encode([3, 1, 0, 2])
        expected = torch.stack([plain_logits(model, PROMPTS[r], r, None) for r in (3, 1, 0, 2)])
        assert (encoding.logits - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("prefix", ["shared", "none"])
def test_every_site_and_span_replays_exactly(model, prefix):
    engine = Engine(model, PROMPTS, LABELS, keep=5, prefix=prefix)
    kinds = operations(model)
    edits = [
        Edit(component=component, layers=(layer,), operation=kinds["noise"], position=position)
        for component in COMPONENTS for layer in range(model.n_layers) for position in range(-5, 0)
    ]  # fmt: skip
    edits += [
        Edit(component=component, layers=span_layers(centre, 3, model.n_layers), operation=kinds["add"])
        for component in COMPONENTS for centre in (1, 2)
    ]  # fmt: skip
    assert_equal(model, engine, edits)


def test_every_operation_in_one_batch(model):
    engine = Engine(model, PROMPTS, LABELS, keep=2)
    edits = [
        Edit(component=component, layers=(1, 2), operation=operation, position=position)
        for operation in operations(model).values() for component in COMPONENTS for position in (-1, -2)
    ]  # fmt: skip
    assert_equal(model, engine, edits)


def test_edits_of_all_positions_use_the_full_pass(model):
    engine = Engine(model, PROMPTS, LABELS)
    kinds = operations(model)
    edits = [Edit(component=c, layers=(1,), operation=kinds[k], position="all") for c in COMPONENTS for k in ("zero", "noise")]
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
    edits = [
        Edit(component=c, layers=(1, 2), operation=op) for c in COMPONENTS for op in operations(model).values()
    ]  # fmt: skip
    assert_equal(model, Engine(model, PROMPTS, LABELS), edits)


def test_reading_equals_hooks_and_adds_up(model):
    engine = Engine(model, PROMPTS, LABELS, keep=5)
    encoding = engine.encode([3, 0, 2], read=COMPONENTS)
    for index, row in enumerate([3, 0, 2]):
        seen = {}
        handles = [
            module.register_forward_hook(lambda _m, _a, out, key=(c, n): seen.update({key: unwrap(out)[0, -5:].clone()}))
            for c in COMPONENTS for n, module in enumerate(model.modules(c, view=model.hf))
        ]  # fmt: skip
        plain_logits(model, PROMPTS[row], row, None)
        for handle in handles:
            handle.remove()
        for (component, layer), expected in seen.items():
            assert torch.allclose(encoding.activations[component][layer, index], expected, atol=1e-3)
    total = encoding.resid_pre + encoding.activations["attn_out"] + encoding.activations["mlp_out"]
    assert torch.allclose(total, encoding.activations["resid_post"], atol=1e-3)


def test_identity_and_repeated_replay_leave_the_clean_logits(model):
    engine = Engine(model, PROMPTS, LABELS, keep=3)
    encoding = engine.encode([0, 1, 2, 3])
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
    swap = Patch(encoding.activations_by_text() if hasattr(encoding, "activations_by_text") else {
        c: values[:, :, -1] for c, values in encoding.activations.items()}, torch.tensor([1, 0]))
    edit = Edit(component="resid_post", layers=(model.n_layers - 1,), operation=swap)
    assert torch.allclose(engine.replay(encoding, [edit])[:, 0], encoding.logits.flip(0), atol=TOLERANCE)


def test_more_edits_than_columns_fit_at_once():
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS, LABELS)
    vectors = torch.randn(75, model.n_layers, model.width, generator=torch.Generator().manual_seed(0))
    edits = [Edit(component="resid_post", layers=(1, 2), operation=Add(v, 1.0)) for v in vectors]
    assert_equal(model, engine, edits)


def test_whole_label_log_probability(model):
    engine = Engine(model, PROMPTS, LABELS)
    sequences = [[70], [80, 81], [90, 70, 65, 72]]
    found = engine.continuations(engine.encode([3, 0]), sequences)
    for index, row in enumerate((3, 0)):
        for column, sequence in enumerate(sequences):
            ids = model.tokenizer(PROMPTS[row])["input_ids"] + sequence
            with torch.no_grad():
                steps = model.hf(torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = sum(steps[len(ids) - len(sequence) - 1 + i, token] for i, token in enumerate(sequence))
            assert abs(found[index, column] - expected) < TOLERANCE


def test_greedy_equals_generate(model):
    engine = Engine(model, PROMPTS, LABELS)
    found = engine.greedy(engine.encode([0, 2]), 4)
    for index, row in enumerate((0, 2)):
        ids = torch.tensor([model.tokenizer(PROMPTS[row])["input_ids"]])
        for _ in range(4):
            with torch.no_grad():
                ids = torch.cat([ids, model.hf(ids).logits[:, -1:].argmax(-1)], 1)
        assert found[index].tolist() == ids[0, -4:].tolist()


def test_remote_simulation_equals_local():
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS, LABELS)
    edits = [Edit(component="mlp_out", layers=(1, 2), operation=Zero()), Edit(component="attn_out", layers=(2,), operation=Noise(0))]
    assert torch.equal(engine.forward([0, 2], edits, remote="local"), engine.forward([0, 2], edits))


def test_batches_cover_every_text_once_within_the_budget():
    model = tiny_model("llama")
    engine = Engine(model, PROMPTS * 5, LABELS, max_texts=3)
    batches = engine.batches()
    assert sorted(row for batch in batches for row in batch) == list(range(20))
    assert max(map(len, batches)) == 3
    assert all(len(batch) == 1 for batch in Engine(model, PROMPTS, LABELS, cache_bytes=1).batches())


@pytest.mark.parametrize(("layers", "position", "message"), [
    ((4,), -1, "layer 4 is outside tiny-llama: it has layers 0..3"),
    ((1,), -2, "keeps -1..-1"),
    ((1,), "all", "use forward"),
])  # fmt: skip
def test_what_cannot_be_replayed_is_refused(layers, position, message):
    engine = Engine(tiny_model("llama"), PROMPTS, LABELS)
    with pytest.raises(ValueError, match=message):
        engine.replay(engine.encode([0]), [Edit(component="mlp_out", layers=layers, operation=Zero(), position=position)])
