"""Hand-written kernels: plain functions on ndarrays, each compiled and as a NumPy twin.

``use("numba" | "numpy" | "check")`` chooses which of the two runs; ``load()`` gives all the
pairs.  Kernels know no Tensor.  A new kernel is one module here: first the twin, which says
in the clearest words what is computed, then the compiled form under ``@kernel(twin=...)``;
and a line in the table below.  The compiled form takes its range as slices first and counts from
zero (see loops.py): LLVM makes no vector code of a loop from start to stop.  No kernel has the
name of a module: importing the module would put it where the kernel is looked for.

Axis letters in shapes: N batch, T time, D features in, H hidden, V vocabulary,
C channels, K kernel or the inner size of a product.
"""

import importlib
from typing import Any

from . import memory
from .registry import FLAT_GRAIN, Kernel, mode, record_calls, registry, use
from .threads import get_num_threads, run_rows, set_num_threads

# Module -> its kernels.  A module is imported when one of them is first asked for: Numba's
# decorators take their time, and no program needs them all.
_MODULES = {
    "activations": (
        "elu", "elu_backward", "gelu", "gelu_backward", "gelu_tanh", "gelu_tanh_backward",
        "leaky_relu", "leaky_relu_backward", "relu", "relu_backward", "softplus",
        "softplus_backward",
    ),
    "attention": ("attend_backward", "attend_forward"),
    "conv": (
        "conv2d_bias_gradient", "conv2d_forward", "conv2d_input_gradient", "conv2d_weight_gradient",
    ),
    "cross_entropy": (
        "cross_entropy_ids", "cross_entropy_ids_backward", "cross_entropy_probs",
        "cross_entropy_probs_backward",
    ),
    "dense": ("matmul",),
    "dropout": ("dropout_backward", "dropout_forward", "pcg64_state", "pcg64_stream"),
    "embedding": ("gather_rows", "ids_within", "scatter_add_rows"),
    "greedy": ("lstm_greedy",),
    "gru": ("gru_backward", "gru_forward"),
    "layer_norm_lstm": ("layer_norm_lstm_backward", "layer_norm_lstm_forward"),
    "lstm": ("lstm_backward", "lstm_forward"),
    "lstm_layer": ("lstm_layer_backward", "lstm_layer_forward"),
    "lstmp": ("lstmp_backward", "lstmp_forward"),
    "narrow": ("narrow_matmul",),
    "normalise": (
        "batch_constants", "batch_moments", "batch_norm_backward", "batch_norm_forward",
        "batch_slopes", "batch_sums", "layer_norm_backward", "layer_norm_forward",
    ),
    "padding": ("zero_past_end",),
    "pool": (
        "avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward",
    ),
    "rnn": ("rnn_backward", "rnn_forward"),
    "saturation": ("count_saturated",),
    "small": ("small_matmul", "sum_all", "sum_rows"),
    "through_pool": ("pooled_input_gradient", "pooled_weight_gradient"),
    "update": (
        "adadelta", "adagrad", "adam", "clamp", "ftrl", "momentum", "rmsprop",
        "rmsprop_centered", "room_for_squares", "scale", "sgd", "squared_norm",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = found  # the next time it is found without this function
    return found


def load() -> dict[str, Kernel]:
    """All kernels by name; imports the modules that nobody has asked for yet."""
    for module in _MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return registry


memory.keep_freed_memory()

__all__ = [
    "FLAT_GRAIN", "Kernel", "get_num_threads", "load", "mode", "record_calls", "registry",
    "run_rows", "set_num_threads", "use", *_MODULE_OF,
]  # fmt: skip
