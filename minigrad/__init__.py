"""minigrad: a small deep-learning engine to read, and to train on a CPU with.

NumPy holds the arrays, Numba compiles the hand-written kernels, matplotlib draws.
"""

from . import errors, functional, kernels
from .autodiff import grad
from .functional import *  # noqa: F403
from .graph import enable_grad, is_grad_enabled, no_grad
from .kernels import get_num_threads, set_num_threads
from .tensor import Tensor, apply, from_numpy, tensor
