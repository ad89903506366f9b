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
from .embedding import gather_rows, scatter_add_rows
from .lstm import lstm_backward, lstm_forward
from .registry import Kernel, mode, record_calls, registry, use
from .threads import get_num_threads, run_rows, set_num_threads

__all__ = [
    "Kernel", "cross_entropy_ids", "cross_entropy_ids_backward", "cross_entropy_probs",
    "cross_entropy_probs_backward", "gather_rows", "get_num_threads", "lstm_backward",
    "lstm_forward", "mode", "record_calls", "registry", "run_rows", "scatter_add_rows",
    "set_num_threads", "use",
]  # fmt: skip
