"""How a caller and its threads share the rows of one kernel call.

A thread that sleeps takes 30 to 100 us to wake, as long as a small kernel runs, and two
threads that both want Python's lock put each other to sleep.  So those who wait look at
numbers in shared memory, inside compiled code that does not hold the lock.  The numbers are
on a *board*:

    CALL      ticket of the last call.  The caller writes it from within compiled code: the
              lock is free then, and a thread that looks on can fetch the call's arguments.
    TAKEN     how many pieces of the rows have been taken, by the caller or by a thread;
    FINISHED  how many of them are done; both with the ticket in their upper half, so that a
              thread that comes late, or is still busy with another call, changes nothing.

Nobody is given a piece that he does not ask for: where a thread is not there in time, the
caller takes its piece too.  When the pieces are gone, a thread looks on for the next call
for about a millisecond before it goes to sleep.
"""

from __future__ import annotations

import hashlib
import platform
import types
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types as nb
from numba.core import cgutils
from numba.extending import intrinsic

from .inner import inner

_LINE = 8  # int64 numbers in a cache line; each of the numbers has a line to itself
CALL, TAKEN, FINISHED = 0, _LINE, 2 * _LINE
_PATIENCE = 40_000  # looks at the board: about a millisecond


def new_board() -> np.ndarray:
    """A board on which no call has been written."""
    return np.zeros(3 * _LINE, np.int64)


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Pointer to the entry ``args[1]`` of the array ``args[0]``."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def _look(typingctx: Any, board: Any, place: Any) -> Any:
    """board[place] as the other threads have it now."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, sig, args), "seq_cst", 8)

    return nb.int64(board, nb.intp), codegen


@intrinsic
def _write(typingctx: Any, board: Any, place: Any, value: Any) -> Any:
    """board[place] = value, seen by the others after everything written before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, sig, args), "seq_cst", 8)
        return context.get_dummy_value()

    return nb.void(board, nb.intp, nb.int64), codegen


@intrinsic
def _replace(typingctx: Any, board: Any, place: Any, old: Any, new: Any) -> Any:
    """Write ``new`` if ``old`` is still there; whether it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _place(context, builder, sig, args)
        result = builder.cmpxchg(pointer, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return nb.boolean(board, nb.intp, nb.int64, nb.int64), codegen


@intrinsic
def _pause(typingctx: Any) -> Any:
    """Tell the core that it runs a waiting loop, where there is a word for that."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            word = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, word, name), [])
        return context.get_dummy_value()

    return nb.void(), codegen


@inner()
def _open_call(board: Any, ticket: int) -> None:
    _write(board, FINISHED, ticket << 32)  # before anybody can take a piece and finish it
    _write(board, TAKEN, ticket << 32)
    _write(board, CALL, ticket)


@inner()
def _count(board: Any, place: int, ticket: int, limit: int) -> int:
    """Count one up; the number before, or -1 if it was the limit or the call is over."""
    while True:
        seen = _look(board, place)
        number = seen & 0xFFFFFFFF
        if seen >> 32 != ticket or number >= limit:
            return -1
        if _replace(board, place, seen, seen + 1):
            return number


@inner()
def _all_finished(board: Any, ticket: int, pieces: int) -> bool:
    """Wait for the pieces that threads have taken; False if that takes long."""
    for _ in range(_PATIENCE):
        if _look(board, FINISHED) == (ticket << 32) + pieces:
            return True
        _pause()
    return False


@inner()
def _next_call(board: Any, ticket: int) -> bool:
    """Look on until there is another call; False if none comes."""
    for _ in range(_PATIENCE):
        if _look(board, CALL) != ticket:
            return True
        _pause()
    return False


def _symbol(kernel: Any, types: tuple[Any, ...]) -> str:
    """Have ``kernel`` compiled for such arguments, or loaded; the name of its address.

    Numba's own names are numbered, and two processes that compile at once number differently:
    one might find the other's kernel in the cache, and not by the name it looks for.
    """
    kernel.compile(types)
    compiled = kernel.overloads[types]
    place = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    kind = hashlib.sha1(repr(types).encode()).hexdigest()
    name = f"minigrad.{kernel.py_func.__module__}.{kernel.py_func.__name__}.{kind}"
    llvmlite.binding.add_symbol(name, place)
    return name


@intrinsic
def _call(typingctx: Any, kernel: Any, args: Any, start: Any, stop: Any) -> Any:
    """kernel(*args, start, stop), by the address of what has been compiled for such arguments.

    A call written in Python would have LLVM take the kernel apart and compile it once more.
    """
    types = (*args.types, nb.intp, nb.intp)
    symbol = _symbol(kernel.dispatcher, types)
    compiled = kernel.dispatcher.overloads[types]

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        _, unpacked, start, stop = values
        operands = [builder.extract_value(unpacked, i) for i in range(len(args.types))]
        convention, names, signature = context.call_conv, compiled.fndesc, compiled.signature
        kind = convention.get_function_type(names.restype, names.argtypes)
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        status, result = convention.call_function(
            builder, function, signature.return_type, signature.args, [*operands, start, stop]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return result

    return compiled.signature.return_type(kernel, args, nb.intp, nb.intp), codegen


def _kernel(*args: Any) -> None:
    """Stands for the kernel in the function below; each copy of that has its own."""


def _shared(
    board: Any, ticket: Any, is_caller: Any, pieces: Any, each: Any, rows: Any, *args: Any
) -> Any:
    if is_caller:
        _open_call(board, ticket)
    piece = _count(board, TAKEN, ticket, pieces)
    while piece >= 0:
        _call(_kernel, args, piece * each, min((piece + 1) * each, rows))
        _count(board, FINISHED, ticket, pieces)
        piece = _count(board, TAKEN, ticket, pieces)
    if is_caller:
        return _all_finished(board, ticket, pieces)
    return _next_call(board, ticket)


def shared(kernel: Any, name: str, compiled: Callable[[Any], Any]) -> Any:
    """The kernel as caller and threads run it: a piece of the rows, then the next.

    kernel: a compiled function; compiled: compiles another one in the same way.  The result
    takes (board, ticket, is_caller, pieces, rows in each, rows, *args of the kernel without
    start and stop); for the caller it returns whether all is finished, for a thread whether
    there is another call.
    """
    # A copy in which ``_kernel`` means this one: Numba's cache knows a function by its name
    # and file, and would not keep one that is handed a kernel as an argument.
    names = {**globals(), "_kernel": kernel}
    copy = types.FunctionType(_shared.__code__, names, f"{name}_shared")
    copy.__qualname__, copy.__module__ = copy.__name__, __name__
    runner = compiled(copy)
    compile_runner = runner.compile

    def compile_both(argtypes: Any) -> Any:
        # What comes from the cache looks for the kernel's address: it has to be known by then.
        _symbol(kernel, (*argtypes[-1].types, nb.intp, nb.intp))
        return compile_runner(argtypes)

    runner.compile = compile_both
    return runner
