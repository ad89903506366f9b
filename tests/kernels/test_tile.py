"""The register tile against NumPy's product."""

import numba
import numpy as np
import pytest

from minigrad.kernels import narrow_matmul, tile


@numba.njit
def _product(a, b, c):
    tile.product(a, tile.pack(b, 0, b.shape[1]), c)


def _run(a, b):
    step = tile.width(a.dtype)
    c = np.full((a.shape[0], -(-b.shape[1] // step) * step), np.nan, a.dtype)
    _product(a, b, c)
    if np.isfinite(a).all():
        assert not c[:, b.shape[1] :].any()  # zeros past the last column
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
    b = rng.standard_normal((70, 40)).astype(dtype)
    whole = _run(a, b)
    for start, stop in [(0, 1), (3, 20), (28, 29), (5, 13)]:
        np.testing.assert_array_equal(_run(a[start:stop].copy(), b), whole[start:stop])


def test_nan_and_infinity_pass_through():
    a = np.ones((2, 3), np.float32)
    a[0, 1], a[1, 2] = np.nan, np.inf
    c = _run(a, np.ones((3, 4), np.float32))
    assert np.isnan(c[0]).all() and np.isinf(c[1]).all()


def test_pack_takes_a_transposed_view():
    b = np.arange(12.0).reshape(3, 4)
    panels = tile.pack(b.T, 0, 3)
    assert panels.shape[1] == 4
    np.testing.assert_array_equal(panels[0, :, :3], b.T)


def test_pack_takes_some_columns():
    b = np.arange(200.0).reshape(2, 100)
    panels = tile.pack(b, 10, 70)
    step = panels.shape[2]
    flat = np.concatenate(list(panels), axis=1)
    np.testing.assert_array_equal(flat[:, :70], b[:, 10:80])
    assert not flat[:, 70:].any() and flat.shape[1] == -(-70 // step) * step


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
