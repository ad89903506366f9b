"""Initialisers against TensorFlow's ranges and moments."""

import numpy as np
import pytest

from minigrad.errors import ArgumentError, ShapeError
from minigrad.nn import init


def _rng():
    return np.random.default_rng(0)


def test_truncated_normal_has_mean_then_std():
    x = init.truncated_normal((200, 500), -0.1, 0.1, generator=_rng())
    assert x.dtype == np.float32 and x.min() >= -0.3 - 1e-6 and x.max() <= 0.1 + 1e-6
    assert abs(x.mean() + 0.1) < 1e-3
    assert abs(x.std() - 0.1 * 0.8796) < 1e-3  # a normal cut at two deviations is narrower


@pytest.mark.parametrize(
    ("shape", "fans"), [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((5, 5, 3, 8), (75, 200))]
)
def test_fans_as_in_tensorflow(shape, fans):
    assert init.fans(shape) == fans
    x = init.glorot_uniform((*shape, 1000) if not shape else shape, generator=_rng())
    assert np.abs(x).max() <= np.sqrt(6 / sum(init.fans(x.shape)))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 4)])
def test_orthogonal(shape):
    x = init.orthogonal(shape, gain=2.0, generator=_rng(), dtype=np.float64)
    m = x.reshape(-1, shape[-1]) / 2
    small = m.T @ m if m.shape[0] >= m.shape[1] else m @ m.T
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)


def test_same_state_same_bits():
    for make in (init.normal, init.truncated_normal, init.glorot_uniform, init.orthogonal):
        one, two = (make((4, 3), generator=_rng()) for _ in range(2))
        np.testing.assert_array_equal(one, two)


def test_uniform_and_constant():
    x = init.uniform((1000,), -2.0, 3.0, generator=_rng())
    assert -2 <= x.min() < -1.9 and 2.9 < x.max() < 3
    assert (init.constant((2, 2), 5.0) == 5).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: init.normal((2,), generator=None), ArgumentError, "default_rng"),
        (lambda: init.normal((2,), std=-1.0, generator=_rng()), ArgumentError, "std"),
        (lambda: init.truncated_normal((2,), std=-1.0, generator=_rng()), ArgumentError, "std"),
        (lambda: init.uniform((2,), 1.0, 0.0, generator=_rng()), ArgumentError, "low"),
        (lambda: init.orthogonal((2,), generator=_rng()), ShapeError, "two axes"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
