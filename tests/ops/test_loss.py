"""Softmax cross-entropy: the plain formula, what is ignored, stability, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((3, 4, 5))
IDS = RNG.integers(0, 5, (3, 4))
SOFT = RNG.uniform(0, 1, (3, 4, 5))
WEIGHT = RNG.uniform(0, 2, (3, 4))


def plain(logits, target, weight=None, reduction="mean"):
    """The formula on float64 arrays, with the gradient of the sum of the result."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    target = np.eye(logits.shape[-1])[target] if target.dtype.kind == "i" else target
    scale = np.ones(logits.shape[:-1]) if weight is None else weight
    if reduction == "mean":
        scale = scale / scale.sum()
    rows = -scale * (target * np.log(p)).sum(-1)
    gradient = scale[..., None] * (target.sum(-1, keepdims=True) * p - target)
    return rows if reduction == "none" else rows.sum(), gradient


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("target", [IDS, SOFT], ids=["ids", "soft"])
def test_value_and_gradient(target, weight, reduction, dtype):
    value, gradient = plain(LOGITS, target, weight, reduction)
    x = mg.Tensor(LOGITS.astype(dtype), requires_grad=True)
    for wrap in (lambda a: a, lambda a: None if a is None else mg.Tensor(a)):
        x.grad = None
        loss = mg.cross_entropy(x, wrap(target), weight=wrap(weight), reduction=reduction)
        loss.sum().backward()
        rtol = 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(loss.array, value, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(x.grad.array, gradient, rtol=rtol, atol=rtol)
        assert loss.dtype == x.grad.dtype == dtype


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", [IDS, SOFT], ids=["ids", "soft"])
def test_composed_form_is_the_same(target, reduction):
    x = mg.Tensor(LOGITS, requires_grad=True)
    composed = ops.softmax_cross_entropy.composed
    losses = [
        mg.apply(op, x, target=target, weight=WEIGHT, reduction=reduction)
        for op in (ops.softmax_cross_entropy, composed)
    ]
    np.testing.assert_allclose(losses[0].array, losses[1].array, rtol=1e-12)
    seed = RNG.standard_normal(losses[0].shape)
    fused, made = (mg.grad(loss, x, seed)[0].array for loss in losses)
    np.testing.assert_allclose(fused, made, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_rows_do_not_matter(reduction):
    ids = IDS.copy()
    ids[0, 1] = ids[2, 3] = -100
    kept = ids != -100
    x = mg.Tensor(LOGITS.copy(), requires_grad=True)
    x.array[~kept] = np.nan  # never looked at
    loss = mg.cross_entropy(x, ids, ignore_index=-100, reduction=reduction)
    value, gradient = plain(LOGITS[kept], ids[kept], None, reduction)
    loss.sum().backward()
    got = loss.array[kept] if reduction == "none" else loss.array
    np.testing.assert_allclose(got, value, rtol=1e-12)
    np.testing.assert_allclose(x.grad.array[kept], gradient, rtol=1e-12)
    assert not x.grad.array[~kept].any()
    weighted = mg.cross_entropy(x, ids, weight=kept, reduction=reduction)
    np.testing.assert_array_equal(weighted.array, loss.array)


def test_all_rows_ignored_is_zero_and_not_nan():
    x = mg.Tensor(LOGITS, requires_grad=True)
    loss = mg.cross_entropy(x, np.full((3, 4), 7), ignore_index=7)
    loss.backward()
    assert loss.item() == 0 and not x.grad.array.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    x = mg.Tensor(np.array([[1e4, -1e4], [0, 300]], dtype), requires_grad=True)
    loss = mg.cross_entropy(x, np.array([1, 1]), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == [2e4, 0]
    np.testing.assert_allclose(x.grad.array, [[1, -1], [0, 0]], atol=1e-30)


def test_nan_is_not_hidden():
    x = LOGITS.copy()
    x[1, 2, 3] = np.nan
    loss = mg.cross_entropy(mg.Tensor(x), IDS, reduction="none").array
    assert np.isnan(loss[1, 2]) and np.isnan(loss).sum() == 1


def test_more_classes_than_a_range_of_rows_is_worth():
    x = RNG.standard_normal((3, 20000))
    ids = np.array([0, 19999, 7])
    value, gradient = plain(x, ids)
    tensor = mg.Tensor(x, requires_grad=True)
    loss = mg.cross_entropy(tensor, ids)
    loss.backward()
    np.testing.assert_allclose(loss.item(), value, rtol=1e-12)
    np.testing.assert_allclose(tensor.grad.array, gradient, rtol=1e-9, atol=1e-16)


FLOATS = mg.Tensor(LOGITS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mg.cross_entropy(FLOATS, IDS[0]), ShapeError, r"\(3, 4, 5\).*target is \(4,\)"),
        (lambda: mg.cross_entropy(FLOATS, IDS[..., None]), ShapeError, "without their last axis"),
        (lambda: mg.cross_entropy(FLOATS, IDS * 1.0), ShapeError, "class ids must be integers"),
        (lambda: mg.cross_entropy(FLOATS, SOFT > 1), DTypeError, "target cannot be bool"),
        (lambda: mg.cross_entropy(FLOATS, IDS + 1), IndexRangeError, r"target id 5 at .*5 classes"),
        (lambda: mg.cross_entropy(FLOATS, IDS - 5), IndexRangeError, r"at \(0, 0\).*ignore_index"),
        (lambda: mg.cross_entropy(FLOATS, IDS, WEIGHT[0]), ShapeError, r"weight is \(4,\)"),
        (lambda: mg.cross_entropy(FLOATS, IDS, reduction="avg"), ArgumentError, "got 'avg'"),
        (lambda: mg.cross_entropy(IDS, IDS[0]), DTypeError, "logits must be floats, got int64"),
        (lambda: mg.cross_entropy(mg.tensor(1.0), 0), ShapeError, "need classes on their last"),
        (lambda: mg.cross_entropy(mg.zeros(3, 0), [0] * 3), ShapeError, r"got \(3, 0\)"),
    ],
)  # fmt: skip
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=f"^softmax_cross_entropy: .*{message}"):
        call()


def test_mse_loss():
    p, t = mg.tensor([1.0, 2.0], True), mg.tensor([0.0, 4.0])
    assert mg.mse_loss(p, t).item() == 2.5 and mg.mse_loss(p, t, "sum").item() == 5
    assert mg.mse_loss(p, t, "none").tolist() == [1, 4]
    mg.mse_loss(p, t).backward()
    assert p.grad.tolist() == [1, -2]
    with pytest.raises(ShapeError, match=r"prediction is \(2, 1\) but target is \(2,\).*reshape"):
        mg.mse_loss(p.unsqueeze(1), t)
    with pytest.raises(ArgumentError, match="mse_loss: reduction must be"):
        mg.mse_loss(p, t, "avg")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", [0.0, -3.0, 14.0, -14.0, 100.0, -100.0, 3000.0, -3000.0, -np.inf])
def test_cross_entropy_of_long_rows_whatever_the_first_entry(first, dtype):
    """Long rows are shifted by their first entry, or by the largest where that is far away."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 1001)).astype(dtype)
    logits[1:, 0] = first
    logits[2, 500:] = -np.inf  # masked classes
    x = mg.Tensor(logits, requires_grad=True)
    loss = mg.cross_entropy(x, np.array([3, 4, 5]), reduction="none")
    loss.sum().backward()
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    log_sum = top + np.log(np.exp(wide - top).sum(axis=1, keepdims=True))
    p = np.exp(wide - log_sum)
    p[range(3), (3, 4, 5)] -= 1
    tiny = 1e-13 if dtype == np.float64 else 1e-5
    expected = (log_sum[:, 0] - wide[range(3), (3, 4, 5)]).astype(dtype)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=tiny, atol=tiny)
    np.testing.assert_allclose(x.grad.numpy(), p, rtol=100 * tiny, atol=tiny)


def test_cross_entropy_of_long_rows_without_a_number():
    for place, value in ((0, np.nan), (700, np.nan), (0, np.inf), (700, np.inf)):
        logits = np.zeros((2, 1001), np.float32)
        logits[1, place] = value
        loss = mg.cross_entropy(mg.Tensor(logits), np.array([3, 3]), reduction="none").numpy()
        assert np.isfinite(loss[0]) and np.isnan(loss[1])
    nothing = np.full((1, 1001), -np.inf, np.float32)
    assert np.isnan(mg.cross_entropy(mg.Tensor(nothing), np.array([3])).item())
