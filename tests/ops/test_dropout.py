"""Dropout: NumPy's random numbers bit for bit, the generator's state, threads, refusals."""

import gc
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, GraphError

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_misc.npz")


def plain(x, p, generator):
    """What dropout means, in NumPy."""
    keep = generator.random(x.shape, dtype=np.float32) >= p
    return x * (keep.astype(x.dtype) / x.dtype.type(1 - p))


def two_generators(make):
    return (np.random.Generator(make(11)) for _ in range(2))


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937,
                                  np.random.Philox])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_and_same_state_as_numpy(bits, dtype):
    mine, numpys = two_generators(bits)
    for shape in [(3,), (), (7, 11), (5, 6001), (0, 4), (1,), (5, 6000), (2,), (4097,)]:
        for p in (0.1, 0.5, 0):
            x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            y = mg.dropout(mg.Tensor(x), p, generator=mine)
            assert y.array.tobytes() == plain(x, p, numpys).tobytes()
            assert y.dtype == dtype and y.shape == shape
            assert repr(mine.bit_generator.state) == repr(numpys.bit_generator.state)
        np.testing.assert_equal(mine.random(3), numpys.random(3))  # whole words in between


def test_a_probability_next_to_a_possible_number():
    """NumPy compares float32 with p rounded to float32: what is drawn exactly is kept."""
    draws = np.random.Generator(np.random.PCG64(11)).random(5000, dtype=np.float32)
    for number in (draws[draws > 0.5][0], draws[draws < 0.1][0]):
        for step in (-1, -0.7, -0.3, 0, 0.3, 0.7, 1):  # of the grid that the numbers lie on
            mine, numpys = two_generators(np.random.PCG64)
            p, x = float(number) + step / 2**24, np.ones(5000, np.float32)
            y = mg.dropout(x, p, generator=mine).array
            assert y.tobytes() == plain(x, p, numpys).tobytes()


def test_bits_do_not_depend_on_threads_or_mode():
    x, before = mg.Tensor(np.ones((333, 301), np.float32)), mg.get_num_threads()
    found = []
    try:
        for mode, threads in [("numba", 1), ("numba", 2), ("numba", 3), ("numpy", 1)]:
            mg.set_num_threads(threads)
            generator = np.random.default_rng(0)
            with mg.kernels.use(mode):
                y = mg.dropout(x, 0.3, generator=generator)
            found.append((y.array.tobytes(), repr(generator.bit_generator.state)))
    finally:
        mg.set_num_threads(before)
    assert len(set(found)) == 1


def test_the_gradient_has_the_mask_and_the_factor():
    x = mg.Tensor(np.ones((40, 50)), requires_grad=True)
    y = mg.dropout(x, 0.3, generator=np.random.default_rng(0))
    upstream = np.random.default_rng(1).standard_normal((40, 50))
    (gradient,) = mg.grad(y, x, upstream)
    np.testing.assert_array_equal(gradient.array, upstream * y.array)


def test_golden():
    """TensorFlow's values on TensorFlow's mask: goldens/ops_misc.npz."""
    from minigrad.ops.dropout import masked

    x, mask = GOLDEN["dropout/x"], GOLDEN["dropout/mask"].astype(np.uint8).reshape(-1)
    y, vjp = masked(x, mask, 1 / GOLDEN["dropout/keep_prob"])
    np.testing.assert_allclose(y, GOLDEN["dropout/y"], rtol=1e-14)
    np.testing.assert_allclose(vjp(GOLDEN["dropout/upstream"]), GOLDEN["dropout/dx"], rtol=1e-14)


def test_nan_and_infinity_are_not_hidden():
    x = np.full(1000, np.nan, np.float32)
    x[::2] = np.inf
    y = mg.dropout(x, 0.5, generator=np.random.default_rng(0)).array
    assert np.isnan(y[1::2]).all() and not np.isfinite(y).any()


def test_two_calls_have_two_masks_and_each_its_own_second_derivative():
    generator = np.random.default_rng(0)
    x = mg.Tensor(np.random.default_rng(1).standard_normal(200), requires_grad=True)
    one, two = (mg.dropout(x**3, 0.5, generator=generator) for _ in range(2))
    factors = [y.array / x.array**3 for y in (one, two)]
    assert not np.array_equal(*factors)
    state = repr(generator.bit_generator.state)
    (first,) = mg.grad(one * two, x, np.ones(200), create_graph=True)
    (second,) = mg.grad(first, x, np.ones(200))
    expected = factors[0] * factors[1] * 30 * x.array**4
    np.testing.assert_allclose(second.array, expected, rtol=1e-12)
    assert repr(generator.bit_generator.state) == state  # nothing was drawn for it


def test_calling_the_op_again_draws_anew():
    """As mg.capture does it: the arguments of the recorded call, again."""
    x = mg.Tensor(np.ones(500, np.float32), requires_grad=True)
    y = nn.Dropout(0.5, generator=np.random.default_rng(0))(x)
    again, _ = y.node.op(x.array, **y.node.params)
    assert not np.array_equal(again, y.array)
    (gradient,) = mg.grad(y, x, np.ones_like(again), create_graph=True)  # its own mask still
    np.testing.assert_array_equal(gradient.array, y.array)


def test_the_mask_is_small_and_goes_with_the_graph():
    from minigrad.nodes import saved_arrays

    x = mg.Tensor(np.ones(4000, np.float32), requires_grad=True)
    y = mg.dropout(x, 0.5, generator=np.random.default_rng(0))
    assert sum(a.nbytes for a in saved_arrays(y.node.vjp)) == 4000
    memory = y.node.params["memory"]
    y.sum().backward()
    gc.collect()
    assert memory.mask() is None


def test_without_memory_a_second_derivative_is_refused():
    x = mg.Tensor(np.ones(4), requires_grad=True)
    y = mg.apply(ops.dropout, x, p=0.5, generator=np.random.default_rng(0))
    with pytest.raises(GraphError, match="dropout: .*minigrad.functional.dropout"):
        mg.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, g: mg.dropout(x, 1.0, generator=g), ArgumentError, "probability to drop"),
        (lambda x, g: mg.dropout(x, -0.1, generator=g), ArgumentError, "got -0.1"),
        (lambda x, g: mg.dropout(x, np.nan, generator=g), ArgumentError, "got nan"),
        (lambda x, g: mg.dropout(x, 0.5, generator=7), ArgumentError, "generator=np.random"),
        (lambda x, g: mg.dropout(x.astype(int), 0.5, generator=g), DTypeError, "int64"),
    ],
)
def test_refusals_draw_nothing(call, error, message):
    generator = np.random.default_rng(0)
    before = repr(generator.bit_generator.state)
    with pytest.raises(error, match=f"^dropout: .*{message}"):
        call(np.ones(3, np.float32), generator)
    assert repr(generator.bit_generator.state) == before
