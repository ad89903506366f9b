"""Hand-written kernels: plain functions on ndarrays, each compiled and as a NumPy twin.

``use("numba" | "numpy" | "check")`` chooses which of the two runs; ``registry`` holds the
pairs.  Kernels know no Tensor.  A new kernel is one module here: first the twin, which says
in the clearest words what is computed, then the compiled form under ``@kernel(twin=...)``.

Axis letters in shapes: N batch, T time, D features in, H hidden, V vocabulary,
C channels, K kernel or the inner size of a product.
"""

from .cross_entropy import (
    cross_entropy_ids,
    cross_entropy_ids_backward,
    cross_entropy_probs,
    cross_entropy_probs_backward,
)
from .embedding import gather_rows, ids_within, scatter_add_rows
from .lstm import lstm_backward, lstm_forward
from .registry import Kernel, mode, record_calls, registry, use
from .threads import get_num_threads, run_rows, set_num_threads
from .tile import matmul
from .update import (
    adadelta,
    adagrad,
    adam,
    clamp,
    ftrl,
    momentum,
    rmsprop,
    rmsprop_centered,
    scale,
    sgd,
    squared_norm,
)

__all__ = [
    "Kernel", "adadelta", "adagrad", "adam", "clamp", "cross_entropy_ids",
    "cross_entropy_ids_backward", "cross_entropy_probs", "cross_entropy_probs_backward", "ftrl",
    "gather_rows", "get_num_threads", "ids_within", "lstm_backward", "lstm_forward", "matmul",
    "mode", "momentum", "record_calls", "registry", "rmsprop", "rmsprop_centered", "run_rows",
    "scale", "scatter_add_rows", "set_num_threads", "sgd", "squared_norm", "use",
]  # fmt: skip
