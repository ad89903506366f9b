"""The update rules, with TensorFlow's formulas.

In all of them ``weight_decay`` is PyTorch's L2 penalty: g = gradient + weight_decay * w.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import kernels
from ..errors import ArgumentError
from ._checks import Check, flag, fraction, not_negative, positive, two_fractions
from .optimizer import Optimizer, Rule


class SGD(Optimizer):
    """Stochastic gradient descent: w -= lr * g, with or without momentum.

    params, allow_missing: see :class:`Optimizer`.
    lr: learning rate.
    momentum: in [0, 1); if above 0, v = momentum * v + g; w -= lr * v.
    nesterov: w -= lr * (g + momentum * v) instead (Sutskever et al., ICML 2013).

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.4, 3.2], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": not_negative, "momentum": fraction, "nesterov": flag, "weight_decay": not_negative,
    }  # fmt: skip
    _PLAIN: ClassVar[tuple[str, ...]] = ()
    _HEAVY: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
        super().__init__(params, settings, allow_missing)

    def _check(self, settings: Any, where: str) -> dict[str, Any]:
        checked = super()._check(settings, where)
        if checked["nesterov"] and not checked["momentum"]:
            raise ArgumentError(f"{where}: nesterov=True needs a momentum above 0")
        return checked

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if momentum:
            return kernels.momentum, self._HEAVY, (lr, momentum, group["nesterov"], decay)
        return kernels.sgd, self._PLAIN, (lr, decay)


class Momentum(SGD):
    """SGD with momentum 0.9 (Polyak 1964; TensorFlow's MomentumOptimizer); see :class:`SGD`.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.Momentum([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.4, 3.2], dtype=float32)
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = False,
        *,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        super().__init__(
            params, lr, momentum,
            nesterov=nesterov, weight_decay=weight_decay, allow_missing=allow_missing,
        )  # fmt: skip


class Adagrad(Optimizer):
    """acc += g^2; w -= lr * g / sqrt(acc)  (Duchi, Hazan and Singer, JMLR 2011).

    initial_accumulator: what acc starts from, above 0, for there is no epsilon.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.9, 3.9], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": not_negative, "initial_accumulator": positive, "weight_decay": not_negative,
    }  # fmt: skip
    _SLOTS: ClassVar[tuple[str, ...]] = ("accumulator",)

    def __init__(
        self,
        params: Any,
        lr: float,
        initial_accumulator: float = 0.1,
        *,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(lr=lr, initial_accumulator=initial_accumulator, weight_decay=weight_decay)
        super().__init__(params, settings, allow_missing)

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        return group["initial_accumulator"]

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        return kernels.adagrad, self._SLOTS, (group["lr"], group["weight_decay"])


class RMSProp(Optimizer):
    """w -= v, where v = momentum * v + lr * g / sqrt(rms + eps)  (Hinton, lecture 6e, 2012).

    rms = decay * rms + (1 - decay) * g^2, which starts from 1, as in TensorFlow.
    centered: subtract the square of the mean gradient from rms (Graves, arXiv:1308.0850).
    eps stands inside the root.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.RMSProp([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.717, 3.704], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": not_negative, "decay": fraction, "momentum": fraction, "eps": not_negative,
        "centered": flag, "weight_decay": not_negative,
    }  # fmt: skip
    _PLAIN: ClassVar[tuple[str, ...]] = ("rms", "momentum")
    _CENTERED: ClassVar[tuple[str, ...]] = ("rms", "mean", "momentum")

    def __init__(
        self,
        params: Any,
        lr: float,
        decay: float = 0.9,
        momentum: float = 0.0,
        eps: float = 1e-10,
        centered: bool = False,
        *,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(
            lr=lr, decay=decay, momentum=momentum, eps=eps, centered=centered,
            weight_decay=weight_decay,
        )  # fmt: skip
        super().__init__(params, settings, allow_missing)

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        return 1.0 if slot == "rms" else 0.0

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        numbers = tuple(group[k] for k in ("lr", "decay", "momentum", "eps", "weight_decay"))
        if group["centered"]:
            return kernels.rmsprop_centered, self._CENTERED, numbers
        return kernels.rmsprop, self._PLAIN, numbers


class Adam(Optimizer):
    """w -= lr_t * m / (sqrt(v) + eps)  (Kingma and Ba, ICLR 2015, the form before section 2.1).

    m and v are running means of g and g^2 with betas[0] and betas[1], and
    lr_t = lr * sqrt(1 - betas[1]^t) / (1 - betas[0]^t), with t the updates of the parameter.
    As in TensorFlow, eps is not bias-corrected (in PyTorch it is: there it counts more in
    the first steps).

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.9, 3.9], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": not_negative, "betas": two_fractions, "eps": not_negative,
        "weight_decay": not_negative,
    }  # fmt: skip
    _SLOTS: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, settings, allow_missing)

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        beta1, beta2 = group["betas"]
        lr = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        return kernels.adam, self._SLOTS, (lr, beta1, beta2, group["eps"], group["weight_decay"])


class Adadelta(Optimizer):
    """w -= lr * d, where d = g * sqrt(moved + eps) / sqrt(acc + eps)  (Zeiler, arXiv:1212.5701).

    acc and moved are running means of g^2 and d^2 with the factor rho.  The paper has lr = 1;
    TensorFlow's default is 0.001.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.Adadelta([w], lr=1000.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.553, 3.553], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": not_negative, "rho": fraction, "eps": not_negative, "weight_decay": not_negative,
    }  # fmt: skip
    _SLOTS: ClassVar[tuple[str, ...]] = ("accumulator", "moved")

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        rho: float = 0.95,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
        super().__init__(params, settings, allow_missing)

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        numbers = (group["lr"], group["rho"], group["eps"], group["weight_decay"])
        return kernels.adadelta, self._SLOTS, numbers


class Ftrl(Optimizer):
    """Follow the regularised leader, which sets small weights to exactly zero.

    (McMahan et al., "Ad click prediction", KDD 2013, with learning rate power -1/2.)
    l1, l2: strengths of the penalties; they take the place of weight_decay.
    initial_accumulator: what the sum of g^2 starts from.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = optim.Ftrl([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.numpy().round(3)
    array([2.742, 3.742], dtype=float32)
    """

    _settings: ClassVar[dict[str, Check]] = {
        "lr": positive, "initial_accumulator": positive, "l1": not_negative, "l2": not_negative,
    }  # fmt: skip
    _SLOTS: ClassVar[tuple[str, ...]] = ("accumulator", "linear")

    def __init__(
        self,
        params: Any,
        lr: float,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        *,
        allow_missing: bool = False,
    ) -> None:
        settings = dict(lr=lr, initial_accumulator=initial_accumulator, l1=l1, l2=l2)
        super().__init__(params, settings, allow_missing)

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        return group["initial_accumulator"] if slot == "accumulator" else 0.0

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        return kernels.ftrl, self._SLOTS, (group["lr"], group["l1"], group["l2"])
