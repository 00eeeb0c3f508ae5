"""The gradient of a table, some rows of it: wherever it goes, the numbers are those of all rows."""

import copy
from typing import Any

import numpy as np
import pytest

from minispike import default_dtype, grad
from minispike.nn import functional as F
from minispike.nn.module import Parameter
from minispike.nn.optim import AdamW, clip_gradients, gradient_norm
from minispike.row_gradient import RowGradient, numbers, plus
from minispike.tensor import Tensor

Array = Any

TABLE = np.random.default_rng(0).normal(size=(40, 3))
IDS = np.array([[5, 2, 5], [39, 0, 2]])


def looked_up(ids: Array, table: Parameter, factor: float = 1.0) -> Tensor:
    seed = np.random.default_rng(len(ids)).normal(size=(*ids.shape, 3)) * factor
    return (F.embedding(ids, table) * seed).sum()


def dense(rows: RowGradient) -> Tensor:
    return Tensor(rows.array, dtype=rows.dtype)


def of_rows(*rows: int, seed: int = 0) -> RowGradient:
    values = np.random.default_rng(seed).normal(size=(len(rows), 3))
    return RowGradient(40, np.array(rows), values)


@pytest.fixture
def table() -> Parameter:
    return Parameter(TABLE, dtype=np.float64)


def test_a_lookup_has_the_gradient_of_its_composition(table: Parameter) -> None:
    seed = np.random.default_rng(1).normal(size=(*IDS.shape, 3))
    (found,) = grad((F.embedding(IDS, table) * seed).sum(), [table], rows=True)
    (expected,) = grad((F.embedding_composed(IDS, table) * seed).sum(), [table])
    assert isinstance(found, RowGradient) and expected is not None
    assert found.rows.tolist() == [0, 2, 5, 39]
    assert (found.shape, found.size, found.ndim, found.dtype) == ((40, 3), 120, 2, np.float64)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(found.array[found.rows], numbers(found))


def test_as_an_ordinary_tensor(table: Parameter) -> None:
    """In backward, in sums within a graph, in ops."""
    total = looked_up(IDS, table) + looked_up(IDS[:1], table) + (table * table).sum()
    (found,) = grad(total, [table], rows=True)
    total.backward()
    assert table.grad is not None and found is not None
    np.testing.assert_array_equal(table.grad.numpy(), found.numpy())
    assert type(found) is Tensor
    rows = of_rows(1, 7)
    np.testing.assert_array_equal((rows * 2.0).numpy(), 2.0 * rows.numpy())
    assert not rows.array.flags.writeable and rows.array is rows.array


def test_who_does_not_ask_for_rows_gets_an_ordinary_tensor(table: Parameter) -> None:
    looked_up(IDS, table).backward()
    (found,) = grad(looked_up(IDS, table), [table])
    assert type(table.grad) is type(found) is Tensor
    np.testing.assert_array_equal(found.numpy(), table.grad.numpy())
    again = copy.deepcopy(table)
    assert again.grad is not None
    again.grad.assign(np.ones((40, 3)))
    np.testing.assert_array_equal(table.grad.numpy(), found.numpy())


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int8])
def test_ids_of_any_type(table: Parameter, kind: Any) -> None:
    found = [grad(looked_up(ids, table), [table], rows=True)[0] for ids in (IDS.astype(kind), IDS[:1])]
    assert found[0] is not None and found[1] is not None
    total = plus(found[0], found[1], in_place=False)
    np.testing.assert_allclose(total.numpy(), found[0].numpy() + found[1].numpy(), rtol=0, atol=1e-15)


def test_no_row_at_all(table: Parameter) -> None:
    (found,) = grad((F.embedding(IDS[:0], table)).sum(), [table], rows=True)
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), np.zeros((40, 3)))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("kinds", ["rows rows", "rows all", "all rows", "all all"])
def test_sums(kinds: str, in_place: bool) -> None:
    first, second = of_rows(1, 7, 30), of_rows(0, 7, 39, seed=1)
    expected = first.numpy() + second.numpy()
    a, b = (each if kind == "rows" else dense(each) for each, kind in zip((first, second), kinds.split(), strict=True))
    before = a.numpy(), b.numpy()
    found = plus(a, b, in_place=in_place)
    np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_array_equal(b.numpy(), before[1])
    if not in_place:
        np.testing.assert_array_equal(a.numpy(), before[0])
    assert isinstance(found, RowGradient) == (kinds == "rows rows")
    assert not found.array.flags.writeable


def test_norm_and_clipping(table: Parameter) -> None:
    table.grad = of_rows(1, 7, 30)
    norm = float(np.linalg.norm(table.grad.numpy()))
    assert gradient_norm([table]) == pytest.approx(norm, rel=1e-14)
    expected = table.grad.numpy() * (0.5 / norm)
    assert clip_gradients([table], 0.5) == pytest.approx(norm, rel=1e-14)
    np.testing.assert_allclose(table.grad.numpy(), expected, rtol=1e-14)


ONE_NUMBER = RowGradient(40, np.array([20]), np.array([[0.0, 0.0, 1.0]]))
GRADIENTS = [
    of_rows(3, 9),
    of_rows(3),
    ONE_NUMBER,
    of_rows(0, 39, seed=2),
    of_rows(*range(15), seed=3),
    of_rows(9, 30, seed=4),
]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_moves_a_table_as_if_all_rows_were_there(decay: float, threads: int, dtype: Any) -> None:
    """To the last bit: few rows, rows that had a gradient before, more than half of them, and all of them."""
    how: dict[str, Any] = {"weight_decay": decay, "decay_all": True, "threads": threads}
    ours, theirs = Parameter(TABLE, dtype=dtype), Parameter(TABLE, dtype=dtype)
    some, everything = AdamW([("table", ours)], **how), AdamW([("table", theirs)], **how)
    for i, rows in enumerate([*GRADIENTS, *GRADIENTS]):
        rows = RowGradient(40, rows.rows, rows.values.astype(dtype))
        ours.grad, theirs.grad = (dense(rows) if i == 9 else rows), dense(rows)
        for optimiser in (some, everything):
            optimiser.step(0.01, 0.5)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=str(i))
        if i == 5:  # taken up from a checkpoint
            some = AdamW([("table", ours)], **how)
            some.load_state_dict(everything.state_dict())
    for name, moments in everything.state_dict().items():
        np.testing.assert_array_equal(some.state_dict()[name], moments)


def test_the_state_of_another_optimiser_comes_with_its_rows(table: Parameter) -> None:
    """And those that were moved before are forgotten."""
    name, twin = "embedding.weight", Parameter(TABLE, dtype=np.float64)
    other = Parameter(TABLE, dtype=np.float64)
    used, elsewhere, whole = (AdamW([(name, p)]) for p in (table, other, twin))
    table.grad, other.grad = of_rows(1, 2), of_rows(3)
    used.step(0.1)
    elsewhere.step(0.1)
    table.assign(TABLE)
    for optimiser in (used, whole):
        optimiser.load_state_dict(elsewhere.state_dict())
    table.grad, twin.grad = of_rows(5), dense(of_rows(5))
    used.step(0.1)
    whole.step(0.1)
    np.testing.assert_array_equal(table.numpy(), twin.numpy())
    assert np.flatnonzero((table.numpy() != TABLE).any(axis=1)).tolist() == [3, 5]


def test_rows_that_never_had_a_gradient_are_not_touched() -> None:
    """Not even read: what stands there may be no number."""
    values = TABLE.copy()
    values[20] = np.nan
    with default_dtype(np.float64):
        table = Parameter(values)
        optimiser = AdamW([("embedding.weight", table)])
        for rows in (of_rows(3, 9), of_rows(4)):
            table.grad = rows
            with np.errstate(all="raise"):
                optimiser.step(0.1)
    moved = np.flatnonzero((table.numpy() != values).any(axis=1) & ~np.isnan(values).any(axis=1))
    assert moved.tolist() == [3, 4, 9]
