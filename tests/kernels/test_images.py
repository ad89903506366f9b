"""The kernels of convolution and pooling against their twins."""

import numpy as np
import pytest

from minigrad import kernels

# N, H, W, C, O, groups, (KH, KW), stride, dilation, ((top, bottom), (left, right)), pool
CONVOLUTIONS = [
    (2, 5, 6, 2, 3, 1, (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (3, 9, 8, 4, 6, 2, (3, 2), (2, 1), (1, 2), ((1, 2), (0, 1)), (1, 1)),
    (2, 9, 8, 4, 6, 2, (3, 2), (2, 3), (2, 1), ((0, 0), (0, 0)), (2, 2)),
    (2, 7, 7, 3, 40, 1, (5, 5), (1, 1), (1, 1), ((2, 2), (2, 2)), (3, 3)),
    (1, 14, 14, 32, 64, 1, (5, 5), (1, 1), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    (2, 28, 28, 1, 32, 1, (5, 5), (1, 1), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    (0, 5, 5, 1, 2, 1, (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (2, 2)),
    (2, 7, 10, 6, 6, 6, (3, 3), (3, 2), (1, 1), ((4, 1), (0, 3)), (2, 3)),
    (1, 20, 20, 3, 5, 1, (1, 1), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    (2, 8, 8, 2, 70, 2, (2, 2), (3, 3), (1, 1), ((0, 0), (0, 0)), (4, 1)),
    (1, 33, 35, 1, 1, 1, (2, 3), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    (3, 9, 8, 20, 6, 1, (3, 2), (2, 1), (2, 1), ((1, 2), (0, 1)), (2, 3)),
    (2, 7, 7, 11, 40, 1, (3, 3), (1, 2), (1, 1), ((0, 0), (2, 0)), (3, 2)),
]
# N, H, W, C, size, stride, top and left, rows and columns out
POOLINGS = [
    (2, 4, 4, 2, (2, 2), (2, 2), (0, 0), (2, 2)),
    (3, 7, 6, 5, (3, 3), (2, 2), (1, 0), (4, 3)),
    (2, 5, 9, 33, (3, 2), (1, 3), (1, 1), (5, 3)),
    (0, 4, 4, 1, (2, 2), (2, 2), (0, 0), (2, 2)),
    (1, 3, 3, 4, (5, 5), (5, 5), (1, 1), (1, 1)),
    (1, 30, 31, 2, (20, 17), (4, 5), (0, 2), (3, 4)),
]


def _draw(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def _convolutions(rng, dtype):
    """Arguments of the forward kernel, for which, as often as not, there is relu or a bias."""
    for k, case in enumerate(CONVOLUTIONS):
        n, h, w, channels, outputs, groups, size, stride, dilation, padding, pool = case
        out = [
            (length + sum(around) - (cells - 1) * apart - 1) // step + 1
            for length, cells, step, apart, around in zip((h, w), size, stride, dilation, padding)
        ]
        x = _draw(rng, (n, h, w, channels), dtype)
        weight = _draw(rng, (*size, channels // groups, outputs), dtype)
        bias = _draw(rng, (0 if k % 3 == 0 else outputs,), dtype)
        window = (*stride, *dilation, padding[0][0], padding[1][0], *out)
        y = np.full((n, *(-(-a // b) for a, b in zip(out, pool)), outputs), np.nan, dtype)
        which = np.full((0, 0, 0, 0) if pool == (1, 1) else y.shape, 99, np.uint8)
        yield x, weight, bias, k % 2 == 1, window, groups, pool, y, which


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution(dtype):
    rng = np.random.default_rng(0)
    with kernels.use("check"):
        for x, w, bias, relu, window, groups, pool, y, which in _convolutions(rng, dtype):
            batch = len(x)
            for start, stop in ((min(1, batch), batch), (0, min(1, batch))):
                kernels.conv2d_forward(
                    x, w, bias, relu, window, groups, pool, y, which, start, stop
                )
            g = _draw(rng, y.shape, dtype)
            rest = window, groups, pool
            dx = np.full_like(x, np.nan)
            for start, stop in ((min(1, batch), batch), (0, min(1, batch))):
                kernels.conv2d_input_gradient(g, y, which, relu, w, *rest, dx, start, stop)
            for parts in (1, 3):
                dw = np.full((parts, *w.shape), np.nan, dtype)
                kernels.conv2d_weight_gradient(x, g, y, which, relu, *rest, dw, 0, parts)
                db = np.full((parts, y.shape[3]), np.nan, dtype)
                kernels.conv2d_bias_gradient(g, y, relu, db, 0, parts)
                assert np.isfinite(dw).all() and np.isfinite(db).all()
            assert np.isfinite(y).all() and np.isfinite(dx).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_through_a_pool(dtype):
    """The kernels that take only the pixels that won, on runs of whole panels and of others."""
    rng = np.random.default_rng(0)
    with kernels.use("check"):
        for x, w, bias, relu, window, groups, pool, y, which in _convolutions(rng, dtype):
            if pool == (1, 1) or groups > 1 or window[3] > 1:
                continue
            kernels.conv2d_forward(
                x, w, bias, relu, window, groups, pool, y, which, 0, len(x)
            )
            g, dx = _draw(rng, y.shape, dtype), np.full_like(x, np.nan)
            g[..., 0] = 0  # a channel without any gradient
            first = min(1, len(x))
            for start, stop in ((first, len(x)), (0, first)):
                kernels.pooled_input_gradient(g, y, which, relu, w, window, pool, dx, start, stop)
            dw = np.full((3, *w.shape), np.nan, dtype)
            kernels.pooled_weight_gradient(x, g, y, which, relu, window, pool, dw, 0, 3)
            assert np.isfinite(dx).all() and np.isfinite(dw).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", POOLINGS)
def test_pooling(case, dtype):
    rng = np.random.default_rng(0)
    n, h, w, channels, size, stride, before, out = case
    window = (*size, *stride, *before)
    with kernels.use("check"):
        for ties in (False, True):
            x = _draw(rng, (n, h, w, channels), dtype)
            x = np.round(x) if ties else x
            y = np.full((n, *out, channels), np.nan, dtype)
            which = np.full(y.shape, 99, np.uint8 if size[0] * size[1] <= 256 else np.uint16)
            g, dx = _draw(rng, y.shape, dtype), np.full_like(x, np.nan)
            for start, stop in ((min(1, n), n), (0, min(1, n))):
                kernels.max_pool2d_forward(x, window, y, which, start, stop)
                kernels.max_pool2d_backward(g, which, window, dx, start, stop)
            assert np.isfinite(dx).all() and np.isfinite(y).all()
            kernels.avg_pool2d_forward(x, window, y, 0, n)
            kernels.avg_pool2d_backward(g, window, dx, 0, n)
