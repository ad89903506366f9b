"""Clipping: TensorFlow's numbers, the report, and what is refused."""

import copy
import json
import math
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minigrad import kernels, optim
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    GraphError,
    InplaceError,
    NonFiniteError,
    ShapeError,
)
from minigrad.nn.module import Parameter
from minigrad.optim import clip_each_grad_norm_, clip_grad_norm_, clip_grad_value_
from minigrad.tensor import Tensor

GOLDEN = dict(np.load(Path(__file__).parent / "goldens" / "ops_misc.npz"))
FUNCTIONS = [clip_grad_norm_, clip_each_grad_norm_, clip_grad_value_]


def with_gradient(gradient, name=""):
    gradient = np.asarray(gradient)
    p = Parameter(np.zeros(gradient.shape, gradient.dtype))
    p.grad = Tensor(gradient.copy())
    p.name = name
    return p


def several(dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 5), "b": (5,), "scalar": (), "none": (0, 3)}
    return [with_gradient(rng.standard_normal(s).astype(dtype), n) for n, s in shapes.items()]


def arrays(params):
    return [p.grad.array.copy() for p in params]


def total_norm(gradients):
    return math.sqrt(math.fsum(float(x) ** 2 for g in gradients for x in g.ravel()))


# -- TensorFlow's numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["numba", "numpy", "check"])
@pytest.mark.parametrize("max_norm", ["1.25", "5", "100"])
def test_golden_global_norm(max_norm, mode):
    a, b = with_gradient(GOLDEN["clip/a"]), with_gradient(GOLDEN["clip/b"])
    with kernels.use(mode):
        report = clip_grad_norm_([a, b], float(max_norm))
    norm = GOLDEN[f"clip/{max_norm}/norm"]
    np.testing.assert_allclose(report, norm, rtol=1e-12)
    np.testing.assert_allclose(a.grad.array, GOLDEN[f"clip/{max_norm}/a"], rtol=1e-9)
    np.testing.assert_allclose(b.grad.array, GOLDEN[f"clip/{max_norm}/b"], rtol=1e-9)
    assert report.clipped == (max_norm != "100")
    assert report.after == pytest.approx(min(norm, float(max_norm)), rel=1e-12)
    assert report.scale == pytest.approx(min(1, float(max_norm) / norm), rel=1e-12)
    if not report.clipped:  # not even by a rounding
        np.testing.assert_array_equal(a.grad.array, GOLDEN["clip/a"])


def test_golden_float32():
    a = with_gradient(GOLDEN["clip/a"].astype(np.float32))
    b = with_gradient(GOLDEN["clip/b"].astype(np.float32))
    report = clip_grad_norm_([a, b], 1.25)
    assert a.grad.dtype == b.grad.dtype == np.float32
    np.testing.assert_allclose(report, GOLDEN["clip/1.25/norm"], rtol=1e-6)
    np.testing.assert_allclose(a.grad.array, GOLDEN["clip/1.25/a"], rtol=1e-5)


def test_golden_norm_where_duplicate_rows_are_summed():
    """Our gradient of an embedding is dense; TensorFlow's clip/slices/norm counts every
    occurrence of an id by itself, and is smaller here."""
    dense = np.zeros((3, 2))
    np.add.at(dense, GOLDEN["clip/slices_indices"], GOLDEN["clip/slices_values"])
    a, b = with_gradient(GOLDEN["clip/a"]), with_gradient(dense)
    report = clip_grad_norm_([a, b], 1.25)
    golden = GOLDEN["clip/slices/norm_if_duplicates_were_summed"]
    np.testing.assert_allclose(report, golden, rtol=1e-12)
    assert report > GOLDEN["clip/slices/norm"] * 1.001


def test_golden_zero_gradient():
    p = with_gradient(np.zeros(2))
    for function in FUNCTIONS:
        report = function([p], 1.25)
        np.testing.assert_array_equal(p.grad.array, GOLDEN["clip/zero/out"])
        assert report == report.after == 0 and report.scale == 1 and not report.clipped
        assert report.shares == {"parameter 0": 0.0}


def test_golden_each_norm_and_value():
    p = with_gradient(GOLDEN["clip/a"])
    report = clip_each_grad_norm_([p], 2.0)
    np.testing.assert_allclose(p.grad.array, GOLDEN["clip_by_norm/out"], rtol=1e-9)
    assert report.after == pytest.approx(2)
    p = with_gradient(GOLDEN["clip/a"])
    clip_grad_value_([p], (-0.5, 0.7))
    np.testing.assert_allclose(p.grad.array, GOLDEN["clip_by_value/out"], rtol=1e-9)


# -- what it does and says ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_global_norm_by_hand(dtype):
    params = several(dtype)
    before = arrays(params)
    norm = total_norm(before)
    report = clip_grad_norm_(params, 0.5)
    assert isinstance(report, float) and report == pytest.approx(norm, rel=1e-12)
    for p, g in zip(params, before):
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad.array, g * (0.5 / norm), rtol=1e-6)
    assert total_norm(arrays(params)) == pytest.approx(report.after, rel=1e-6)


def test_a_norm_at_the_bound_is_not_clipped():
    p = with_gradient([3.0, 4.0])
    for function, bound in [(clip_grad_norm_, 5), (clip_each_grad_norm_, 5), (clip_grad_value_, 4)]:
        report = function([p], bound)
        assert report == report.after == 5 and report.scale == 1 and not report.clipped


def test_each_norm_clips_only_those_above():
    big, small = with_gradient([30.0, 40.0], "big"), with_gradient([0.3, 0.4], "small")
    report = clip_each_grad_norm_([big, small], 1.0)
    np.testing.assert_allclose(big.grad.array, [0.6, 0.8])
    np.testing.assert_array_equal(small.grad.array, [0.3, 0.4])
    assert report.before == pytest.approx(math.hypot(50, 0.5))
    assert report.after == pytest.approx(math.hypot(1, 0.5))
    assert report.scale == pytest.approx(report.after / report.before) and report.clipped
    again = clip_each_grad_norm_([big, small], 1.0 + 1e-9)
    assert not again.clipped and again.scale == 1 and again.after == again.before


def test_value_by_hand():
    p, q = with_gradient([-3.0, 0.5, 4.0]), with_gradient([0.1])
    report = clip_grad_value_([p, q], 1)
    np.testing.assert_array_equal(p.grad.array, [-1, 0.5, 1])
    assert report.before == pytest.approx(math.sqrt(25.26))
    assert report.after == pytest.approx(math.sqrt(2.26)) and report.clipped
    assert not clip_grad_value_([p, q], 1.0).clipped


def test_shares_are_parts_of_the_squared_norm():
    params = [with_gradient([3.0], "a"), with_gradient([4.0], "b"), with_gradient([0.0])]
    for function in FUNCTIONS:
        for p, g in zip(params, (3.0, 4.0, 0.0)):
            p.grad.array[:] = g
        report = function(params, 0.1)
        expected = {"a": 9 / 25, "b": 16 / 25, "parameter 2": 0.0}
        assert report.shares == pytest.approx(expected)
    assert clip_grad_norm_([("x", params[0])], 1.0).shares == {"x": 1.0}
    assert clip_grad_norm_({"y": params[0]}, 1.0).shares == {"y": 1.0}
    params[0].name = params[1].name = "weight"
    assert len(clip_grad_norm_(params, 1.0).shares) == 3


def test_a_report_is_a_number_with_words():
    report = clip_grad_norm_([with_gradient([3.0, 4.0])], 1.0)
    assert f"{report:.2f}" == "5.00" and report + 1 == 6 and json.dumps(report) == "5.0"
    assert repr(report) == "ClipReport(before=5, after=1, scale=0.2, clipped=True)"
    for other in (copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert other == report and other.scale == report.scale and other.shares == report.shares


def test_one_tensor_and_generators_are_accepted():
    p = with_gradient([3.0, 4.0])
    assert clip_grad_norm_(p, 10.0) == 5
    assert clip_grad_norm_((q for q in [p]), 10) == 5


def test_infinite_bound_only_measures():
    params = several()
    before = arrays(params)
    for function in FUNCTIONS:
        report = function(params, math.inf)
        assert report == pytest.approx(total_norm(before)) and not report.clipped
        for g, h in zip(arrays(params), before):
            np.testing.assert_array_equal(g, h)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_strided_gradients_are_clipped_in_place(function):
    values = np.random.default_rng(0).standard_normal((4, 6))
    wide = np.zeros((4, 12))
    wide[:, ::2] = values
    layouts = [
        values.copy(),
        np.asfortranarray(values),
        wide[:, ::2],
        values[:, ::-1].copy()[:, ::-1],
    ]
    results = []
    for gradient in layouts:
        p = Parameter(np.zeros((4, 6)))
        p.grad = Tensor(gradient)
        report = function([p], 0.5)
        assert p.grad.array is gradient and report.clipped
        results.append((float(report), gradient))
    for norm, gradient in results:
        assert norm == results[0][0]
        np.testing.assert_array_equal(gradient, results[0][1])
    assert (wide[:, 1::2] == 0).all()


def test_a_norm_beyond_the_range_of_its_squares():
    a, b = with_gradient([3e200, 0.0], "a"), with_gradient([4e200], "b")
    report = clip_grad_norm_([a, b], 1.0)
    assert report == pytest.approx(5e200) and report.after == pytest.approx(1)
    assert report.shares == pytest.approx({"a": 9 / 25, "b": 16 / 25})
    np.testing.assert_allclose([*a.grad.array, *b.grad.array], [0.6, 0, 0.8])
    a, b = with_gradient([3e200]), with_gradient([0.5])
    clip_each_grad_norm_([a, b], 1.0)
    np.testing.assert_allclose([a.grad.array[0], b.grad.array[0]], [1.0, 0.5])
    p = with_gradient(np.full(100, 3e38, np.float32))
    assert clip_grad_norm_([p], 1.0) == pytest.approx(3e39, rel=1e-6)
    np.testing.assert_allclose(p.grad.array, 0.1, rtol=1e-5)


def test_same_gradients_same_bits():
    norms = {float(clip_grad_norm_(several(np.float32), 1e9)) for _ in range(5)}
    assert len(norms) == 1


def test_clipping_allocates_no_arrays():
    params = [with_gradient(np.ones((300, 300), np.float32)) for _ in range(3)]
    for function in FUNCTIONS:
        for p in params:
            p.grad.array.fill(1)
        function(params, 0.9)
        tracemalloc.start()
        report = function(params, 1e-6)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert report.clipped and peak < 20_000


def test_a_graph_that_saved_the_gradient_notices():
    w = Parameter(np.ones(3))
    (w * w * w).sum().backward(create_graph=True)
    penalty = (w.grad * w.grad).sum()
    clip_grad_norm_([w], 0.1)
    with pytest.raises(InplaceError, match=r"clip_grad_norm_\(\)"):
        penalty.backward()


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_gradients_are_named_and_untouched(function, dtype):
    good = with_gradient(np.full(3, 9, dtype), "good")
    bad = with_gradient(np.array([np.nan, 1, -np.inf, np.nan], dtype), "lstm.w")
    worse = with_gradient(np.array([[np.inf]], dtype))
    before = arrays([good, bad, worse])
    with pytest.raises(NonFiniteError) as error:
        function([good, bad, worse], 1.0)
    message = str(error.value)
    assert function.__name__ in message and "good" not in message
    assert "lstm.w (2 nan, 1 inf of 4), parameter 2 (1 inf of 1) (2 of 3" in message
    assert "error_if_nonfinite=False" in message
    for g, h in zip(arrays([good, bad, worse]), before):
        np.testing.assert_array_equal(g, h)


def test_non_finite_gradients_on_request():
    """As arithmetic has it, and PyTorch."""
    good, bad = with_gradient([1.0, 2.0]), with_gradient([np.inf, 1.0])
    report = clip_grad_norm_([good, bad], 1.0, error_if_nonfinite=False)
    assert report == math.inf and report.clipped and report.scale == 0
    np.testing.assert_array_equal(good.grad.array, 0)
    np.testing.assert_array_equal(bad.grad.array, [np.nan, 0])
    good, bad = with_gradient([1.0, 2.0]), with_gradient([np.nan])
    report = clip_grad_norm_([good, bad], 1.0, error_if_nonfinite=False)
    assert math.isnan(report) and math.isnan(report.after) and report.clipped
    assert np.isnan(good.grad.array).all()
    good, bad = with_gradient([3.0, 4.0]), with_gradient([np.nan, 1.0])
    report = clip_each_grad_norm_([good, bad], 1.0, error_if_nonfinite=False)
    np.testing.assert_allclose(good.grad.array, [0.6, 0.8])
    assert np.isnan(bad.grad.array).all() and math.isnan(report.after)
    p = with_gradient([np.nan, np.inf, -np.inf, 0.5])
    report = clip_grad_value_([p], 1.0, error_if_nonfinite=False)
    np.testing.assert_array_equal(p.grad.array, [np.nan, 1, -1, 0.5])
    p = with_gradient([np.inf, 0.5])
    report = clip_grad_value_([p], 1.0, error_if_nonfinite=False)
    assert report == math.inf and report.after == pytest.approx(math.sqrt(1.25))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_missing_gradients(function):
    a, b, c = (with_gradient([3.0, 4.0], name) for name in "abc")
    b.grad = None
    with pytest.raises(GraphError, match=rf"{function.__name__}: no gradient in b \(1 of 3.*backw"):
        function([a, b, c], 0.1)
    np.testing.assert_array_equal(a.grad.array, [3, 4])
    assert function([a, b, c], 100.0, allow_missing=True) == pytest.approx(math.sqrt(50))
    b.requires_grad_(False)
    assert function([a, b, c], 100.0) == pytest.approx(math.sqrt(50))
    c.requires_grad_(False)  # frozen: its old gradient does not count and is left alone
    report = function([a, b, c], 0.1)
    assert report == pytest.approx(5) and report.shares == {"a": 1.0, "b": 0.0, "c": 0.0}
    np.testing.assert_array_equal(c.grad.array, [3, 4])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_arguments(function):
    p = with_gradient([3.0, 4.0])
    for value, error, text in [
        (0, ArgumentError, "above 0, got 0"), (-1.0, ArgumentError, "above 0"),
        (math.nan, ArgumentError, "NaN"), ("1", DTypeError, "a number, got '1'"),
        (None, DTypeError, "a number"), (True, DTypeError, "a number"),
    ]:  # fmt: skip
        with pytest.raises(error, match=f"{function.__name__}: .*{text}"):
            function([p], value)
    for params, error, text in [
        ([], ArgumentError, "no parameters"), (iter([]), ArgumentError, "read only once"),
        ([p, p], ArgumentError, "same tensor"), (3, DTypeError, "iterable of tensors"),
        ([p.grad.array], DTypeError, "parameter 0 is not a tensor but ndarray"),
    ]:  # fmt: skip
        with pytest.raises(error, match=f"{function.__name__}: .*{text}"):
            function(params, 1.0)
    np.testing.assert_array_equal(p.grad.array, [3, 4])


def test_wrong_pairs_of_bounds():
    p = with_gradient([3.0, 4.0])
    for pair in [(1.0, -1.0), (1.0,), (0.0, math.nan)]:
        with pytest.raises(ArgumentError, match="clip_grad_value_"):
            clip_grad_value_([p], pair)
    clip_grad_value_([p], [3.5, math.inf])
    np.testing.assert_array_equal(p.grad.array, [3.5, 4])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_that_do_not_fit(function):
    p, q = with_gradient([3.0, 4.0]), with_gradient([3.0, 4.0], "q")
    for gradient, error, text in [
        (Tensor(np.ones(3)), ShapeError, r"q has shape \(3,\), the parameter \(2,\)"),
        (Tensor(np.ones(2, np.float32)), DTypeError, "q is float32, the parameter float64"),
        (np.ones(2), DTypeError, "q is not a Tensor"),
        (Tensor(np.broadcast_to(np.ones(1), (2,))), InplaceError, "q is read-only"),
    ]:
        q.grad = gradient
        with pytest.raises(error, match=text):
            function([p, q], 0.1)
        np.testing.assert_array_equal(p.grad.array, [3, 4])


def test_clip_and_step_together():
    p = Parameter(np.array([1.0, 1.0]))
    optimizer = optim.SGD([p], 1.0)
    (p * Tensor(np.array([3.0, 4.0]))).sum().backward()
    clip_grad_norm_([p], 1.0)
    optimizer.step()
    np.testing.assert_allclose(p.array, [0.4, 0.2])
