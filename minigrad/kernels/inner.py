"""The decorator of functions that kernels call, and how a kernel keeps its own copy of them."""

from __future__ import annotations

import functools
from typing import Any

import numba
from numba.core import compiler, compiler_machinery, typed_passes
from numba.core.codegen import JITCodeLibrary

# Python never calls these: without the wrappers that it would need they compile a tenth faster.
inner = functools.partial(
    numba.njit, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


class _Library(JITCodeLibrary):
    """Machine code of one kernel, in which the functions that it calls are its own.

    Numba has LLVM optimise such a function by itself and once more inside each kernel, and
    shows all these copies to the linker under one name.  The first that a process meets is
    called by all: by itself where it has just been compiled, inside some kernel where that
    came from the cache.  The two may round differently, so that the run that compiles would
    give other bits than the next.
    """

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        for function in self._final_module.functions:
            if function.linkage.name == "linkonce_odr":
                function.linkage = "internal"


@compiler_machinery.register_pass(mutates_CFG=False, analysis_only=True)
class _OwnLibrary(compiler_machinery.AnalysisPass):
    """Numba's lowering fills the library that it finds, or else one of the usual kind."""

    _name = "minigrad_own_library"

    def __init__(self) -> None:  # abstract in Numba's passes
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


class KernelCompiler(compiler.CompilerBase):
    """Numba's passes, with a library of the kernel's own."""

    def define_pipelines(self) -> list[Any]:
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_OwnLibrary, typed_passes.AnnotateTypes)
        passes.finalize()
        return [passes]
