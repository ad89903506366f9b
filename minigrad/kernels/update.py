"""Update rules of the optimisers, and norms and scaling of gradients, in place.

Every array here is flat, C-contiguous and of one dtype.  Numbers come as Python floats and
are rounded once to that dtype, so that float32 parameters are updated in float32.  The
formulas are TensorFlow's; ``g`` below is ``grad + weight_decay * param``.  Each entry is on its
own, so large arrays are updated in ranges, start to stop, by several threads.

Twin and compiled form do the same operations in the same order, without fastmath, so that
they agree to the last bit (norms excepted: these are summed in another order, by blocks of
a fixed size, so that their bits do not depend on the threads either).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import kernel

# Partial sums of squared_norm.  More than one vector register holds, so that the additions
# of one row do not wait for each other; the order of summation is the same on every machine.
LANES = 64
BLOCK = 1 << 16  # numbers of one sum of squared_norm
_GRAIN = 1 << 15  # of rules with a root or a division: 30 us and more for so many numbers


def sgd_twin(
    param: np.ndarray, grad: np.ndarray, lr: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    """param -= lr * g.  param, grad: (n,)."""
    param, grad = [x[start:stop] for x in (param, grad)]
    param -= lr * (grad + weight_decay * param)


def momentum_twin(
    param: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float,
    nesterov: bool, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    """v = momentum * v + g; param -= lr * v, or lr * (g + momentum * v) if nesterov.

    param, grad, velocity: (n,).
    """
    param, grad, velocity = [x[start:stop] for x in (param, grad, velocity)]
    g = grad + weight_decay * param
    velocity *= momentum
    velocity += g
    param -= lr * (g + momentum * velocity if nesterov else velocity)


def adagrad_twin(
    param: np.ndarray, grad: np.ndarray, accumulator: np.ndarray, lr: float, weight_decay: float,
    start: int, stop: int,
) -> None:  # fmt: skip
    """acc += g^2; param -= lr * g / sqrt(acc).  param, grad, accumulator: (n,)."""
    param, grad, accumulator = [x[start:stop] for x in (param, grad, accumulator)]
    g = grad + weight_decay * param
    accumulator += g * g
    param -= lr * g / np.sqrt(accumulator)


def rmsprop_twin(
    param: np.ndarray, grad: np.ndarray, rms: np.ndarray, velocity: np.ndarray, lr: float,
    decay: float, momentum: float, eps: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    """rms = decay*rms + (1-decay)*g^2; v = momentum*v + lr*g/sqrt(rms + eps); param -= v.

    param, grad, rms, velocity: (n,).
    """
    param, grad, rms, velocity = [x[start:stop] for x in (param, grad, rms, velocity)]
    g = grad + weight_decay * param
    rms *= decay
    rms += (1 - decay) * (g * g)
    velocity *= momentum
    velocity += lr * g / np.sqrt(rms + eps)
    param -= velocity


def rmsprop_centered_twin(
    param: np.ndarray, grad: np.ndarray, rms: np.ndarray, mean: np.ndarray, velocity: np.ndarray,
    lr: float, decay: float, momentum: float, eps: float, weight_decay: float, start: int,
    stop: int,
) -> None:  # fmt: skip
    """As rmsprop, but divided by sqrt(rms - mean^2 + eps), the spread of the gradients.

    mean = decay*mean + (1-decay)*g.  param, grad, rms, mean, velocity: (n,).
    """
    param, grad, rms, mean, velocity = [x[start:stop] for x in (param, grad, rms, mean, velocity)]
    g = grad + weight_decay * param
    rms *= decay
    rms += (1 - decay) * (g * g)
    mean *= decay
    mean += (1 - decay) * g
    velocity *= momentum
    velocity += lr * g / np.sqrt(rms - mean * mean + eps)
    param -= velocity


def adam_twin(
    param: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, lr: float, beta1: float,
    beta2: float, eps: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    """m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g^2; param -= lr * m / (sqrt(v) + eps).

    lr already carries the bias correction.  param, grad, m, v: (n,).
    """
    param, grad, m, v = [x[start:stop] for x in (param, grad, m, v)]
    g = grad + weight_decay * param
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    param -= lr * m / (np.sqrt(v) + eps)


def adadelta_twin(
    param: np.ndarray, grad: np.ndarray, accumulator: np.ndarray, moved: np.ndarray, lr: float,
    rho: float, eps: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    """acc = rho*acc + (1-rho)*g^2; d = g*sqrt(moved + eps)/sqrt(acc + eps);
    moved = rho*moved + (1-rho)*d^2; param -= lr * d.

    param, grad, accumulator, moved: (n,).
    """
    param, grad, accumulator, moved = [x[start:stop] for x in (param, grad, accumulator, moved)]
    g = grad + weight_decay * param
    accumulator *= rho
    accumulator += (1 - rho) * (g * g)
    d = g * np.sqrt(moved + eps) / np.sqrt(accumulator + eps)
    moved *= rho
    moved += (1 - rho) * (d * d)
    param -= lr * d


def ftrl_twin(
    param: np.ndarray, grad: np.ndarray, accumulator: np.ndarray, linear: np.ndarray, lr: float,
    l1: float, l2: float, start: int, stop: int,
) -> None:  # fmt: skip
    """acc' = acc + grad^2; linear += grad - (sqrt(acc') - sqrt(acc)) / lr * param;
    param = (sign(linear)*l1 - linear) / (sqrt(acc')/lr + 2*l2) where |linear| > l1, else 0.

    param, grad, accumulator, linear: (n,).
    """
    param, grad, accumulator, linear = [x[start:stop] for x in (param, grad, accumulator, linear)]
    root = np.sqrt(accumulator)
    accumulator += grad * grad
    new_root = np.sqrt(accumulator)
    linear += grad - (new_root - root) / lr * param
    shrunk = (np.sign(linear) * l1 - linear) / (new_root / lr + 2 * l2)
    param[:] = np.where(np.abs(linear) <= l1, 0, shrunk)


def squared_norm_twin(x: np.ndarray, squares: np.ndarray, start: int, stop: int) -> None:
    """Sums of x_i^2 over blocks start to stop, in float64; nan or inf where x holds them.

    x: (n,), in blocks of ``BLOCK`` numbers; squares: (blocks,) float64, written.
    """
    for block in range(start, stop):
        with np.errstate(over="ignore"):
            part = np.square(x[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
            squares[block] = np.sum(part)


def room_for_squares(x: np.ndarray) -> np.ndarray:
    """What squared_norm writes for x: (blocks,) float64."""
    return np.empty(-(-x.size // BLOCK))


def scale_twin(x: np.ndarray, factor: float, start: int, stop: int) -> None:
    """x *= factor.  x: (n,)."""
    x = x[start:stop]
    x *= factor


def clamp_twin(x: np.ndarray, low: float, high: float) -> int:
    """Bring x into [low, high]; a NaN stays.  Returns how many entries were outside.  x: (n,)."""
    outside = np.count_nonzero((x < x.dtype.type(low)) | (x > x.dtype.type(high)))
    np.clip(x, low, high, out=x)
    return int(outside)


@kernel(twin=sgd_twin, outputs=("param",))
def sgd(param: Any, grad: Any, lr: float, weight_decay: float, start: int, stop: int) -> None:
    param, grad = param[start:stop], grad[start:stop]
    kind = param.dtype.type
    lr, weight_decay = kind(lr), kind(weight_decay)
    for i in range(param.size):
        param[i] -= lr * (grad[i] + weight_decay * param[i])


@kernel(twin=momentum_twin, outputs=("param", "velocity"))
def momentum(
    param: Any, grad: Any, velocity: Any, lr: float, momentum: float, nesterov: bool,
    weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    velocity = velocity[start:stop]
    kind = param.dtype.type
    lr, momentum, weight_decay = kind(lr), kind(momentum), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        velocity[i] = momentum * velocity[i] + g
        param[i] -= lr * (g + momentum * velocity[i] if nesterov else velocity[i])


@kernel(twin=adagrad_twin, outputs=("param", "accumulator"), grain=_GRAIN)
def adagrad(
    param: Any, grad: Any, accumulator: Any, lr: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    accumulator = accumulator[start:stop]
    kind = param.dtype.type
    lr, weight_decay = kind(lr), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        accumulator[i] += g * g
        param[i] -= lr * g / np.sqrt(accumulator[i])


@kernel(twin=rmsprop_twin, outputs=("param", "rms", "velocity"), grain=_GRAIN)
def rmsprop(
    param: Any, grad: Any, rms: Any, velocity: Any, lr: float, decay: float, momentum: float,
    eps: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    rms, velocity = rms[start:stop], velocity[start:stop]
    kind = param.dtype.type
    rest = kind(1 - decay)
    lr, decay, momentum = kind(lr), kind(decay), kind(momentum)
    eps, weight_decay = kind(eps), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        rms[i] = decay * rms[i] + rest * (g * g)
        velocity[i] = momentum * velocity[i] + lr * g / np.sqrt(rms[i] + eps)
        param[i] -= velocity[i]


@kernel(twin=rmsprop_centered_twin, outputs=("param", "rms", "mean", "velocity"), grain=_GRAIN)
def rmsprop_centered(
    param: Any, grad: Any, rms: Any, mean: Any, velocity: Any, lr: float, decay: float,
    momentum: float, eps: float, weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    rms, mean = rms[start:stop], mean[start:stop]
    velocity = velocity[start:stop]
    kind = param.dtype.type
    rest = kind(1 - decay)
    lr, decay, momentum = kind(lr), kind(decay), kind(momentum)
    eps, weight_decay = kind(eps), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        rms[i] = decay * rms[i] + rest * (g * g)
        mean[i] = decay * mean[i] + rest * g
        spread = rms[i] - mean[i] * mean[i] + eps
        velocity[i] = momentum * velocity[i] + lr * g / np.sqrt(spread)
        param[i] -= velocity[i]


@kernel(twin=adam_twin, outputs=("param", "m", "v"), grain=_GRAIN)
def adam(
    param: Any, grad: Any, m: Any, v: Any, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    m, v = m[start:stop], v[start:stop]
    kind = param.dtype.type
    rest1, rest2 = kind(1 - beta1), kind(1 - beta2)
    lr, beta1, beta2 = kind(lr), kind(beta1), kind(beta2)
    eps, weight_decay = kind(eps), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        param[i] -= lr * m[i] / (np.sqrt(v[i]) + eps)


@kernel(twin=adadelta_twin, outputs=("param", "accumulator", "moved"), grain=_GRAIN)
def adadelta(
    param: Any, grad: Any, accumulator: Any, moved: Any, lr: float, rho: float, eps: float,
    weight_decay: float, start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    accumulator, moved = accumulator[start:stop], moved[start:stop]
    kind = param.dtype.type
    rest = kind(1 - rho)
    lr, rho, eps, weight_decay = kind(lr), kind(rho), kind(eps), kind(weight_decay)
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        accumulator[i] = rho * accumulator[i] + rest * (g * g)
        d = g * np.sqrt(moved[i] + eps) / np.sqrt(accumulator[i] + eps)
        moved[i] = rho * moved[i] + rest * (d * d)
        param[i] -= lr * d


@kernel(twin=ftrl_twin, outputs=("param", "accumulator", "linear"), grain=_GRAIN)
def ftrl(
    param: Any, grad: Any, accumulator: Any, linear: Any, lr: float, l1: float, l2: float,
    start: int, stop: int,
) -> None:  # fmt: skip
    param, grad = param[start:stop], grad[start:stop]
    accumulator, linear = accumulator[start:stop], linear[start:stop]
    kind = param.dtype.type
    ridge = kind(2 * l2)
    lr, l1 = kind(lr), kind(l1)
    for i in range(param.size):
        root = np.sqrt(accumulator[i])
        accumulator[i] += grad[i] * grad[i]
        new_root = np.sqrt(accumulator[i])
        z = linear[i] + (grad[i] - (new_root - root) / lr * param[i])
        linear[i] = z
        shrunk = (np.sign(z) * l1 - z) / (new_root / lr + ridge)
        param[i] = kind(0) if np.abs(z) <= l1 else shrunk


@kernel(twin=squared_norm_twin, outputs=("squares",), grain=2)
def squared_norm(x: Any, squares: Any, start: int, stop: int) -> None:
    lanes = np.empty(LANES)
    for block in range(start, stop):
        part = x[block * BLOCK : (block + 1) * BLOCK]
        lanes[:] = 0
        row = 0
        while row + LANES <= part.size:
            for j in range(LANES):
                lanes[j] += np.float64(part[row + j]) ** 2
            row += LANES
        for j in range(part.size - row):
            lanes[j] += np.float64(part[row + j]) ** 2
        total = 0.0
        for j in range(LANES):
            total += lanes[j]
        squares[block] = total


@kernel(twin=scale_twin, outputs=("x",))
def scale(x: Any, factor: float, start: int, stop: int) -> None:
    x = x[start:stop]
    factor = x.dtype.type(factor)
    for i in range(x.size):
        x[i] *= factor


@kernel(twin=clamp_twin, outputs=("x",))
def clamp(x: Any, low: float, high: float) -> int:
    kind = x.dtype.type
    low, high = kind(low), kind(high)
    outside = 0
    for i in range(x.size):
        value = x[i]
        outside += (value < low) | (value > high)
        x[i] = low if value < low else (high if value > high else value)
    return outside
