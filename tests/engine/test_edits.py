"""Every operation against a computation by hand, how random directions are spread, and addresses that are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from emolib.engine.edits import Add, Edit, Mean, Noise, Patch, ProjectOut, Where, Zero, fingerprint
from emolib.engine.sites import COMPONENTS, centres, check_layers, span_layers

LAYERS, TEXTS, WIDTH = 4, 6, 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at(
    rows: list[int] = (0, 1, 2), *, layer: int = 1, component: Any = "mlp_out", positions: list[int] | None = None
) -> Where:
    places = [30] * len(rows) if positions is None else positions
    return Where(layer, component, torch.tensor(rows), torch.tensor(places))


def test_zero() -> None:
    found = Zero()(draw(3, WIDTH), at())
    assert found.shape == (3, WIDTH)
    assert not found.any()


def test_mean_is_that_of_the_site() -> None:
    means = {component: draw(LAYERS, WIDTH, seed=i) for i, component in enumerate(COMPONENTS)}
    found = Mean(means)(draw(3, WIDTH), at(layer=2, component="attn_out"))
    for text in range(3):
        assert torch.equal(found[text], means["attn_out"][2])


def test_patch_gives_each_text_the_activation_of_its_donor() -> None:
    activations = {component: draw(LAYERS, TEXTS, WIDTH, seed=i) for i, component in enumerate(COMPONENTS)}
    donors = torch.tensor([5, 0, 1, 2, 3, 4])
    found = Patch(activations, donors)(draw(3, WIDTH, seed=9), at([4, 0, 2], layer=3, component="resid_post"))
    for index, donor in enumerate((3, 5, 1)):
        assert torch.equal(found[index], activations["resid_post"][3, donor])


def test_add_uses_the_vector_of_the_layer_times_the_coefficient() -> None:
    vectors, old = draw(LAYERS, WIDTH), draw(2, WIDTH, seed=1)
    found = Add(vectors, -2.5)(old, at([0, 1], layer=3))
    expected = [[o - 2.5 * v for o, v in zip(text, vectors[3].tolist(), strict=True)] for text in old.tolist()]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    assert torch.allclose(Add(vectors)(old, at([0, 1], layer=0)), old + vectors[0])


def test_project_out_by_hand() -> None:
    directions = torch.zeros(LAYERS, 1, 2)
    directions[1, 0] = torch.tensor([3.0, 4.0])
    # (1, 2) has the part 11/25 (3, 4) along (3, 4).
    found = ProjectOut(directions)(torch.tensor([[1.0, 2.0]]), at([0], layer=1))
    assert torch.allclose(found, torch.tensor([[1 - 33 / 25, 2 - 44 / 25]]), atol=1e-6)


def test_project_out_leaves_nothing_along_directions_that_are_not_orthogonal() -> None:
    directions = draw(LAYERS, 3, WIDTH)
    directions[:, 2] = directions[:, 0] + 0.1 * directions[:, 1] + 0.05 * directions[:, 2]
    project, old = ProjectOut(directions), draw(5, WIDTH, seed=1)
    found = project(old, at(range(5), layer=2))
    assert (found @ directions[2].T).abs().max() < 1e-5
    assert torch.allclose(project(found, at(range(5), layer=2)), found, atol=1e-5)  # idempotent
    # What is taken away lies in the span: least squares on the directions explains all of it.
    gone = (old - found).T
    explained = directions[2].T @ torch.linalg.lstsq(directions[2].T, gone).solution
    assert torch.allclose(explained, gone, atol=1e-4)


def test_project_out_keeps_what_is_orthogonal() -> None:
    directions = torch.eye(WIDTH)[:2].expand(LAYERS, 2, WIDTH)
    old = draw(3, WIDTH)
    old[:, :2] = 0
    assert torch.allclose(ProjectOut(directions)(old, at()), old)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_operation_keeps_shape_and_dtype(dtype: torch.dtype) -> None:
    values = {component: draw(LAYERS, TEXTS, WIDTH) for component in COMPONENTS}
    old = draw(3, WIDTH).to(dtype)
    for operation in (
        Zero(),
        Noise(0),
        Mean({component: value[:, 0] for component, value in values.items()}),
        Patch(values, torch.arange(TEXTS)),
        Add(draw(LAYERS, WIDTH)),
        ProjectOut(draw(LAYERS, 2, WIDTH)),
    ):
        before = old.clone()
        found = operation(old, at())
        assert (found.shape, found.dtype) == (old.shape, dtype)
        assert torch.equal(old, before), f"{operation} writes into its input"


def test_noise_has_the_norm_of_the_activation() -> None:
    old = draw(50, WIDTH) * torch.logspace(-3, 3, 50)[:, None]
    found = Noise(0)(old, at(range(50)))
    assert torch.allclose(found.norm(dim=1), old.norm(dim=1), rtol=1e-5)
    half = Noise(0)(old[:30].bfloat16(), at(range(30)))
    assert torch.allclose(half.float().norm(dim=1), old[:30].norm(dim=1), rtol=2e-2)


def test_noise_of_a_text_does_not_depend_on_batch_or_order() -> None:
    old, places = draw(TEXTS, WIDTH), [31, 40, 12, 31, 9, 50]
    every = Noise(7)(old, at(range(TEXTS), positions=places))
    for rows in ([3], [5, 0, 3], [2, 3, 4, 5]):
        part = Noise(7)(old[rows], at(rows, positions=[places[row] for row in rows]))
        assert torch.equal(part, every[rows])
    torch.manual_seed(1)
    assert torch.equal(Noise(7)(old, at(range(TEXTS), positions=places)), every)


def test_noise_does_not_touch_the_global_random_state() -> None:
    state = torch.get_rng_state()
    Noise(0)(draw(3, WIDTH), at())
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_differs_by_seed_layer_component_text_and_token() -> None:
    old = torch.ones(1, 512)
    addresses = [
        (seed, at([row], layer=layer, component=component, positions=[place]))
        for seed in (0, 1)
        for layer in (0, 1)
        for component in COMPONENTS
        for row in (0, 1)
        for place in (20, 21)
    ]
    found = torch.cat([Noise(seed)(old, where) for seed, where in addresses])
    cosines = found @ found.T / 512
    cosines.fill_diagonal_(0)
    assert cosines.abs().max() < 0.25  # 1128 pairs of unrelated directions: 5.6 standard deviations of 1 / sqrt(512)


def test_noise_directions_are_isotropic() -> None:
    n, width = 4000, 16
    axis = torch.zeros(width)
    axis[0] = 5.0
    units = Noise(3)(axis.expand(n, width), at(range(n), positions=[20 + row % 40 for row in range(n)])) / 5
    # No direction is preferred, that of the activation neither: the mean cosine with it is 0 within 4 standard errors.
    assert abs(units[:, 0].mean()) < 4 / (n * width) ** 0.5
    assert units.mean(0).norm() < 2 / n**0.5
    spread = torch.linalg.eigvalsh(units.T @ units / n) * width
    assert spread.min() > 0.8 and spread.max() < 1.2
    assert abs((units[1:] * units[:-1]).sum(1).mean()) < 4 / (n * width) ** 0.5  # neighbours in the corpus


def test_an_edit_sorts_its_layers_and_knows_its_defaults() -> None:
    edit = Edit(component="mlp_out", layers=(3, 1, 2, 3), operation=Zero())
    assert edit.layers == (1, 2, 3)  # each once
    assert edit.position == -1
    assert replace(edit, position="all").position == "all"


def test_a_misspelt_component_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ValueError, match=r"unknown component 'mlp_ou' \(did you mean 'mlp_out'\?\): expected one of attn_out"
    ):
        Edit(component="mlp_ou", layers=(0,), operation=Zero())  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [0, 3, "last", "-1", None, 1.0, -1.5])
def test_a_position_that_does_not_count_from_the_end_is_refused(position: Any) -> None:
    with pytest.raises(ValueError, match='expected -1, -2, … .counted from the last token. or "all"'):
        Edit(component="mlp_out", layers=(0,), operation=Zero(), position=position)


def test_spans_by_hand() -> None:
    assert span_layers(4, 1, 10) == (4,)
    assert span_layers(4, 3, 10) == (3, 4, 5)
    assert span_layers(2, 5, 10) == (0, 1, 2, 3, 4)
    assert list(centres(1, 4)) == [0, 1, 2, 3]
    assert list(centres(3, 4)) == [1, 2]
    assert list(centres(5, 4)) == []
    for span in (1, 3, 5):
        for centre in range(-1, 8):
            inside = centre in centres(span, 7)
            windows = range(centre - span // 2, centre + span // 2 + 1)
            assert inside == all(0 <= layer < 7 for layer in windows)


@pytest.mark.parametrize("span", [0, 2, 4, -1])
def test_an_even_span_is_refused(span: int) -> None:
    with pytest.raises(ValueError, match=f"span {span}: expected an odd number of layers, such as 1, 3 or 5"):
        span_layers(4, span, 10)


@pytest.mark.parametrize(("centre", "outside"), [(0, -1), (9, 10)])
def test_a_span_that_leaves_the_model_is_refused(centre: int, outside: int) -> None:
    with pytest.raises(ValueError, match=rf"layer {outside} is outside the model: it has layers 0\.\.9"):
        span_layers(centre, 3, 10)


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer given: name at least one"):
        check_layers((), 10)


def test_dependent_directions_are_removed_like_those_that_span_the_same() -> None:
    independent = draw(LAYERS, 2, WIDTH, seed=3)
    dependent = torch.cat([independent, independent.sum(1, keepdim=True)], 1)
    old = draw(3, WIDTH)
    found = ProjectOut(dependent)(old, at())
    assert torch.allclose(found, ProjectOut(independent)(old, at()), atol=1e-6)
    assert (found @ dependent[1].T).abs().max() < 1e-5
    assert not torch.allclose(found, ProjectOut(torch.cat([independent, draw(LAYERS, 1, WIDTH)], 1))(old, at()))


def test_fingerprints_are_equal_exactly_when_every_number_is() -> None:
    def edits(**changes: Any) -> list[Edit]:
        given = dict(component="mlp_out", layer=1, position=-1, seed=0, scale=1.0, donor=2, weight=0.0) | changes
        vectors, table = draw(LAYERS, WIDTH), {"mlp_out": draw(LAYERS, TEXTS, WIDTH)}
        table["mlp_out"][3, 5, 7] += given["weight"]
        where = dict(component=given["component"], layers=(given["layer"],), position=given["position"])
        donors = torch.full((TEXTS,), given["donor"])
        operations = [Zero(), Noise(given["seed"]), Add(vectors, given["scale"]), Patch(table, donors)]
        return [Edit(operation=operation, **where) for operation in operations]

    same = fingerprint(edits())
    assert fingerprint(edits()) == same
    others = [
        dict(component="attn_out"),
        dict(layer=2),
        dict(position=-2),
        dict(seed=1),
        dict(scale=1.5),
        dict(donor=3),
        dict(weight=1e-6),
    ]
    found = {fingerprint(edits(**change)) for change in others} | {fingerprint(edits()[:3]), fingerprint(edits()[::-1])}
    assert len(found) == len(others) + 2 and same not in found
    vectors = draw(LAYERS, WIDTH)
    assert fingerprint([replace(edits()[0], operation=Add(vectors))]) != fingerprint(
        [replace(edits()[0], operation=Add(vectors.bfloat16().float()))]
    )
    assert fingerprint([replace(edits()[0], operation=Mean({"mlp_out": vectors}))]) != fingerprint(
        [replace(edits()[0], operation=Mean({"attn_out": vectors}))]
    )


def test_an_operation_that_cannot_be_compared_has_no_fingerprint() -> None:
    edit = Edit(component="mlp_out", layers=(1,), operation=lambda activation, _where: activation)
    with pytest.raises(TypeError, match="write operations as dataclasses"):
        fingerprint([edit])
