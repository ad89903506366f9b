"""The register tile against NumPy's product."""

import numba
import numpy as np
import pytest

from minigrad.kernels import matmul, narrow_matmul, panels, tile
from minigrad.kernels.block import VECTOR_BYTES, block


@numba.njit
def _product(a, b, c):
    tile.product(a, panels.pack(b, False, 0, b.shape[0], 0, b.shape[1]), b.shape[1], c)


def _run(a, b):
    step = tile.width(a.dtype)
    c = np.full((a.shape[0], -(-b.shape[1] // step) * step), np.nan, a.dtype)
    _product(a, b, c)
    if np.isfinite(a).all():
        past = c[:, b.shape[1] :]  # zeros, and untouched where half a panel was enough
        half = 0 < b.shape[1] % (2 * step) <= step // 2
        assert (np.isnan(past[:, -(step // 2) :]) if half else past == 0).all()
    return c[:, : b.shape[1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (8, 16, 32), (7, 5, 3), (33, 64, 256), (17, 0, 5), (64, 256, 65), (0, 3, 4)],
)
def test_equals_numpy(shape, dtype):
    rows, depth, columns = shape
    rng = np.random.default_rng(rows + depth)
    a = rng.standard_normal((rows, depth)).astype(dtype)
    b = rng.standard_normal((depth, columns)).astype(dtype)
    bound = 20 * np.finfo(dtype).eps * (np.abs(a.astype(float)) @ np.abs(b) + 1e-30)
    assert (np.abs(_run(a, b) - a.astype(float) @ b) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_the_cut(dtype):
    """A row in a full block and the same row alone: what makes threads reproducible."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((29, 70)).astype(dtype)
    b = rng.standard_normal((70, 150)).astype(dtype)  # panels in pairs, and one left over
    whole = _run(a, b)
    for start, stop in [(0, 1), (3, 20), (28, 29), *((5, 5 + rows) for rows in range(1, 17))]:
        np.testing.assert_array_equal(_run(a[start:stop].copy(), b), whole[start:stop])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("columns", [9, 33, 40, 48, 61, 96, 150])
def test_a_ragged_last_panel_and_any_number_of_rows(columns, turned, dtype):
    """Blocks of every height, the copy of a panel that is not full, and a second chunk of K."""
    rng = np.random.default_rng(columns)
    b, bias = rng.standard_normal((300, columns)).astype(dtype), np.ones(columns, dtype)
    a = rng.standard_normal((300, 43) if turned else (43, 300)).astype(dtype)
    whole = np.full((43, columns), np.nan, dtype)
    sums, nobody = np.full(columns, np.nan, dtype), np.empty(0, dtype)
    matmul(a, turned, b, False, bias, whole, sums, 0, 0, 43)
    bound_of_sums = 20 * np.finfo(dtype).eps * np.abs(b).sum(axis=0, dtype=float)
    assert (np.abs(sums - b.sum(axis=0, dtype=float)) <= bound_of_sums).all()
    rows = a.T if turned else a
    bound = 20 * np.finfo(dtype).eps * (np.abs(rows.astype(float)) @ np.abs(b) + 1)
    assert (np.abs(whole - (rows.astype(float) @ b + 1)) <= bound).all()
    for start, stop in [(0, 1), (0, 2), (3, 13), (1, 12), (4, 36), (2, 36), (40, 43), (9, 9)]:
        part = np.full((43, columns), 7, dtype)
        matmul(a, turned, b, False, bias, part, nobody, 0, start, stop)
        np.testing.assert_array_equal(part[start:stop], whole[start:stop])
        assert (part[:start] == 7).all() and (part[stop:] == 7).all()


def test_nan_and_infinity_pass_through():
    a = np.ones((2, 3), np.float32)
    a[0, 1], a[1, 2] = np.nan, np.inf
    c = _run(a, np.ones((3, 4), np.float32))
    assert np.isnan(c[0]).all() and np.isinf(c[1]).all()


@numba.njit
def _packed(b, turned, k, depth, first, columns):
    return panels.pack(b, turned, k, depth, first, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_pack_takes_a_part_of_a_matrix_or_of_its_transpose(turned, dtype):
    b = np.arange(8100).reshape(81, 100).astype(dtype)
    b.flags.writeable = False
    operand = b.T if turned else b
    for k, depth, first, columns in [(0, 81, 10, 70), (3, 40, 0, 81), (5, 0, 7, 9), (2, 9, 4, 0)]:
        packed = _packed(b, turned, k, depth, first, columns)
        step = packed.shape[2]
        assert packed.shape[:2] == (-(-columns // step), depth) and packed.dtype == dtype
        row = packed.swapaxes(0, 1).reshape(depth, len(packed) * step)
        np.testing.assert_array_equal(
            row[:, :columns], operand[k : k + depth, first : first + columns]
        )
        assert not row[:, columns:].any()


@numba.njit
def _copied(b, b_start, b_row, c, c_start, c_row, rows, columns):
    panels.copy_rows(b, b_start, b_row, c, c_start, c_row, rows, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [0, 1, 15, 16, 31, 32, 33, 70])
def test_copied_rows_reach_their_place_and_nothing_else(columns, dtype):
    b, c = np.arange(1000).astype(dtype), np.full(1000, -1, dtype)
    _copied(b, 5, 90, c, 7, 75, 4, columns)
    expected = np.full(1000, -1, dtype)
    for i in range(4):
        expected[7 + i * 75 :][:columns] = b[5 + i * 90 :][:columns]
    np.testing.assert_array_equal(c, expected)


def test_flat_shares_memory_and_refuses_what_is_not_contiguous():
    @numba.njit
    def count(x):
        numbers = tile.flat(x)
        for k in range(numbers.size):
            numbers[k] = k

    x = np.zeros((2, 3, 4), np.float32)
    count(x)
    np.testing.assert_array_equal(x.ravel(), np.arange(24))
    with pytest.raises(numba.TypingError, match="tile.flat: the array must be C-contiguous"):
        count(x.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_a_narrow_product_has_the_same_bits_in_any_cut_and_stays_in_its_rows(turned, dtype):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((600, 53) if turned else (53, 600)).astype(dtype)
    b, bias = rng.standard_normal((600, 5)).astype(dtype), rng.standard_normal(5).astype(dtype)
    whole = np.empty((53, 5), dtype)
    narrow_matmul(a, turned, b, False, bias, whole, 0, 53)
    for start, stop in [(0, 1), (3, 20), (52, 53), (5, 13), (16, 53), (7, 7)]:
        part = np.full((53, 5), 7, dtype)
        narrow_matmul(a, turned, b, False, bias, part, start, stop)
        np.testing.assert_array_equal(part[start:stop], whole[start:stop])
        assert (part[:start] == 7).all() and (part[stop:] == 7).all()


@pytest.mark.parametrize("scattered", ["", "A"])
@pytest.mark.skipif(VECTOR_BYTES < 32, reason="multiply-adds are counted by their name on x86")
def test_llvm_does_one_step_of_the_loop_at_a_time(scattered):
    """Of two at once the sums would not fit into registers: on some processors it took to that."""
    rows = 6 if VECTOR_BYTES == 64 else 2
    multiply = block([rows], vectors=4, scattered=scattered)

    @numba.njit
    def product(a, c, table, n, depth):
        multiply(a, n, a, n, c, n, table, table, n, n, n, depth, False, c, n, n, rows)

    @numba.njit
    def plain(a, c, table, n, depth):
        multiply(a, n, a, n, c, n, n, n, n, n, n, depth, False, c, n, n, rows)

    function = product if scattered else plain
    numbers = np.zeros(4096, np.float32)
    function(numbers, numbers.copy(), np.zeros(64, np.intp), 1, 9)
    (code,) = function.inspect_asm().values()
    assert code.count("vfmadd") == 4 * rows
