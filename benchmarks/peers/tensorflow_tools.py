"""What TensorFlow's versions of the cases share: the training step, its updates, its LSTM."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .contenders import Contender, xla_environment
from .tools import Weights

LIBRARY = "tensorflow"


def contenders(maker: Callable[..., Any], threads: int) -> list[Contender]:
    """The graph, and the same through XLA."""
    environment = xla_environment(None) | {
        "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
    }  # fmt: skip
    return [
        Contender("TensorFlow graph", LIBRARY, maker, environment),
        Contender("TensorFlow XLA", LIBRARY, functools.partial(maker, xla=True), environment),
    ]



def training(
    weights: Weights,
    loss_of: Callable[..., Any],
    update: tuple[Any, ...],
    xla: bool,
    states: Any = (),
    norm: float | None = None,
) -> Any:
    """The step: loss_of(parameters, states, *batch) -> (loss, states after).

    update: name of a rule and its rate.  states: arrays carried from step to step.
    norm: bound of the global norm.
    """
    import tensorflow as tf

    names = list(weights)
    params = {name: tf.Variable(value) for name, value in weights.items()}
    carried = [tf.Variable(state) for state in states]
    apply = rule(params, *update)

    @tf.function(jit_compile=xla, reduce_retracing=True)
    def train(*batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss, after = loss_of(params, carried, *batch)
        grads = tape.gradient(loss, [params[name] for name in names])
        grads = [tf.convert_to_tensor(g) for g in grads]
        if norm is not None:
            grads, _ = tf.clip_by_global_norm(grads, norm)
        apply(dict(zip(names, grads)))
        for variable, value in zip(carried, after):
            variable.assign(value)
        return loss

    return lambda *batch: train(*map(tf.convert_to_tensor, batch)).numpy()


def rule(params: Any, kind: str, rate: float) -> Callable[[Any], None]:
    """TensorFlow's fused update of all parameters, by a dict of gradients."""
    import tensorflow as tf

    ops = tf.raw_ops
    if kind == "sgd":
        def apply(grads: Any) -> None:
            for name, g in grads.items():
                ops.ResourceApplyGradientDescent(var=params[name].handle, alpha=rate, delta=g)

        return apply
    first = {name: tf.Variable(tf.zeros_like(p)) for name, p in params.items()}
    if kind == "adagrad":
        for sums in first.values():
            sums.assign_add(tf.fill(sums.shape, 0.1))

        def apply(grads: Any) -> None:
            for name, g in grads.items():
                ops.ResourceApplyAdagrad(
                    var=params[name].handle, accum=first[name].handle, lr=rate, grad=g
                )

        return apply
    second = {name: tf.Variable(tf.zeros_like(p)) for name, p in params.items()}
    powers = tf.Variable(np.array([0.9, 0.999], np.float32))

    def apply(grads: Any) -> None:
        now = powers.read_value()
        for name, g in grads.items():
            ops.ResourceApplyAdam(
                var=params[name].handle, m=first[name].handle, v=second[name].handle,
                beta1_power=now[0], beta2_power=now[1], lr=rate, beta1=0.9, beta2=0.999,
                epsilon=1e-8, grad=g,
            )  # fmt: skip
        powers.assign(now * np.array([0.9, 0.999], np.float32))

    return apply


def lstm(kernel: Any, bias: Any, x: Any, h: Any, c: Any, forget_bias: float, xla: bool) -> Any:
    """LSTM over x (T, N, D) with kernel (D + H, 4H): cell states and outputs, (T, N, H) each."""
    import tensorflow as tf

    if not xla:
        none = tf.zeros(h.shape[1])
        steps = tf.cast(tf.shape(x)[0], tf.int64)
        results = tf.raw_ops.BlockLSTM(
            seq_len_max=steps, x=x, cs_prev=c, h_prev=h, w=kernel, wci=none, wcf=none, wco=none,
            b=bias, forget_bias=forget_bias, cell_clip=-1.0, use_peephole=False,
        )  # fmt: skip
        return results.cs, results.h
    depth, cells, outputs = x.shape[2], [], []
    x_gates = tf.tensordot(x, kernel[:depth], 1) + bias
    for t in range(x.shape[0]):
        h, c = cell(x_gates[t] + h @ kernel[depth:], c, forget_bias)
        cells.append(c)
        outputs.append(h)
    return tf.stack(cells), tf.stack(outputs)


def cell(z: Any, c: Any, forget_bias: float) -> tuple[Any, Any]:
    import tensorflow as tf

    i, j, f, o = tf.split(z, 4, axis=1)
    c = c * tf.sigmoid(f + forget_bias) + tf.sigmoid(i) * tf.tanh(j)
    return tf.tanh(c) * tf.sigmoid(o), c


def cross_entropy(logits: Any, labels: Any) -> Any:
    """One number for each row; labels as far along as logits but for their last axis."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def kernels(weights: Weights, pairs: dict[str, tuple[str, str]]) -> Weights:
    """Weights with w_x over w_h in one kernel, TensorFlow's way; pairs: its name -> theirs."""
    parts = {name for pair in pairs.values() for name in pair}
    joined = {name: np.concatenate([weights[k] for k in pair]) for name, pair in pairs.items()}
    return {name: value for name, value in weights.items() if name not in parts} | joined


def dense(p: Any, x: Any, weight: str = "w", bias: str = "b") -> Any:
    import tensorflow as tf

    return tf.matmul(x, p[weight]) + p[bias]
