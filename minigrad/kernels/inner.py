"""The decorator of functions that kernels call."""

from __future__ import annotations

import functools

import numba

# Python never calls these: without the wrappers that it would need they compile a tenth faster.
inner = functools.partial(
    numba.njit, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
