"""A list of calls as one piece of machine code.

Calling a compiled kernel from Python takes about a microsecond, most of it for looking at the
arguments.  When a recorded list of calls is repeated on the same arrays (minigrad/rerun.py),
nothing about them changes, so here the list becomes a function without arguments, in which
addresses and shapes are constants.  It calls the very kernels that Python would have called, so
the bits are the same.  What cannot be put into it (work for several threads, all but the
simplest of NumPy's functions) stays a call from Python, between two such pieces.

NumPy's warnings, of a division by zero for example, are not given from within.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from ..recording import Calls, Diverged, expect

_I32, _SIZE = ir.IntType(32), ir.IntType(8 * np.dtype(np.intp).itemsize)
_FLOATS = {np.dtype(np.float32): ir.FloatType(), np.dtype(np.float64): ir.DoubleType()}
_LANES = 16  # numbers that an instruction of the loops below works on
# One operation each, which IEEE 754 rounds in one way only: the bits are NumPy's.
_ARITHMETIC: dict[Any, Callable[..., Any]] = {
    np.add: lambda builder, x, y: builder.fadd(x, y),
    np.subtract: lambda builder, x, y: builder.fsub(x, y),
    np.multiply: lambda builder, x, y: builder.fmul(x, y),
    np.true_divide: lambda builder, x, y: builder.fdiv(x, y),
    np.square: lambda builder, x: builder.fmul(x, x),
    np.negative: lambda builder, x: builder.fneg(x),
    np.copyto: lambda builder, x: x,
}
_Emitter = Callable[[Any, "Places"], None]  # writes one call into the code of a builder


class Number:
    """An argument, float64, that may be another one at each repetition: ``number.value[0]``."""

    def __init__(self, value: float) -> None:
        self.value = np.array([value])


class Places:
    """Where the memory of ``arrays`` is: ``addresses``, (n,) intp, which may be changed.

    Code that is made with this looks there for the arrays and for views of them; calls that
    stay in Python know the arrays themselves only.
    """

    def __init__(self, arrays: Sequence[np.ndarray] = ()) -> None:
        self.arrays = arrays
        self.homes = [x.ctypes.data for x in arrays]
        self.addresses = np.array(self.homes, np.intp)

    def pointer(self, builder: Any, array: np.ndarray, kind: Any) -> Any:
        """Code for the address of an array's first number."""
        address = array.ctypes.data
        for i, (home, whole) in enumerate(zip(self.homes, self.arrays)):
            if home <= address < home + whole.nbytes:
                entry = _SIZE(self.addresses[i:].ctypes.data)
                start = builder.load(builder.inttoptr(entry, _SIZE.as_pointer()))
                moved = builder.add(start, _SIZE(address - home))
                return builder.inttoptr(moved, kind.as_pointer())
        return builder.inttoptr(_SIZE(address), kind.as_pointer())


def joined(calls: Calls, places: Places | None = None) -> Calls:
    """The same work in fewer calls.  All arrays must stay where they are, or ``places`` says."""
    places = places or Places()
    result: Calls = []
    emitters: list[_Emitter] = []
    keep: Calls = []

    def finish() -> None:
        if emitters:
            result.append((_Piece(emitters, places, keep.copy()), ()))
            emitters.clear()
            keep.clear()

    for call in calls:
        emit = _emitter(*call)
        if emit is None:
            finish()
            result.append(call)
        else:
            emitters.append(emit)
            keep.append(call)
    finish()
    return result


class _Piece:
    """A function without arguments, of the code that the emitters write.

    keep: what owns the arrays and the kernels that the code knows by their addresses.
    """

    def __init__(self, emitters: Sequence[_Emitter], places: Places, keep: Calls) -> None:
        module = ir.Module("minigrad")
        function = ir.Function(module, ir.FunctionType(_I32, ()), "piece")
        builder = ir.IRBuilder(function.append_basic_block())
        for emit in emitters:
            emit(builder, places)
        builder.ret(_I32(0))
        llvmlite.binding.initialize_native_target()  # Numba may not have compiled anything yet
        llvmlite.binding.initialize_native_asmprinter()
        machine = llvmlite.binding.Target.from_default_triple().create_target_machine(
            cpu=llvmlite.binding.get_host_cpu_name(),
            features=llvmlite.binding.get_host_cpu_features().flatten(),
            opt=1,
        )
        code = llvmlite.binding.parse_assembly(str(module))
        self._engine = llvmlite.binding.create_mcjit_compiler(code, machine)
        self._engine.finalize_object()
        self._keep = keep, places
        # a function of this type runs without Python's lock
        self._run = ctypes.CFUNCTYPE(ctypes.c_int32)(self._engine.get_function_address("piece"))

    def __call__(self) -> None:
        if self._run():
            raise Diverged


def _emitter(function: Any, args: tuple[Any, ...]) -> _Emitter | None:
    """What writes the call into code; None if it is left to Python."""
    if function is np.copyto:
        return _loop(_ARITHMETIC[function], args[1:], args[0])
    if function in _ARITHMETIC:
        return _loop(_ARITHMETIC[function], args[:-1], args[-1])
    if function is expect:
        result, function, args = args
        return _kernel_call(function, args, result=result)
    return _kernel_call(function, args)


def _kernel_call(function: Any, args: tuple[Any, ...], result: Any = None) -> _Emitter | None:
    """A call of a compiled kernel.  result: what it must return."""
    if not hasattr(function, "overloads") or not isinstance(result, (bool, int, type(None))):
        return None
    plain = [float(x.value[0]) if isinstance(x, Number) else x for x in args]
    kinds = tuple([function.typeof_pyval(x) for x in plain])
    simple = types.boolean, types.int64, types.float64
    if not all(isinstance(kind, types.Array) or kind in simple for kind in kinds):
        return None
    if kinds not in function.overloads:
        function.compile(kinds)
    compiled = function.overloads[kinds]
    context, names = compiled.target_context, compiled.fndesc
    place = compiled.library.get_pointer_to_function(names.llvm_func_name)
    signature = context.call_conv.get_function_type(names.restype, names.argtypes)

    def values(builder: Any, places: Places, x: Any, kind: Any) -> list[Any]:
        """One argument as compiled code takes it: an array is its address, shape and strides."""
        if isinstance(x, Number):
            return [builder.load(places.pointer(builder, x.value, ir.DoubleType()))]
        if not isinstance(kind, types.Array):
            return [int(x) if kind == types.boolean else x]
        parts = {
            "meminfo": [None], "parent": [None], "nitems": [x.size], "itemsize": [x.itemsize],
            "data": [places.pointer(builder, x, context.get_data_type(kind.dtype))],
            "shape": x.shape, "strides": x.strides,
        }  # fmt: skip
        return [value for name in context.data_model_manager[kind]._fields for value in parts[name]]

    def emit(builder: Any, places: Places) -> None:
        returned = builder.alloca(signature.args[0].pointee)
        error = builder.alloca(signature.args[1].pointee)
        flat = [v for x, kind in zip(args, kinds) for v in values(builder, places, x, kind)]
        given = [
            x if isinstance(x, ir.Value) else kind(x) for x, kind in zip(flat, signature.args[2:])
        ]
        callee = builder.inttoptr(_SIZE(place), signature.as_pointer())
        code = builder.call(callee, [returned, error, *given])
        bad = builder.icmp_signed("!=", code, code.type(0))
        if result is not None:
            value = builder.load(returned)
            wrong = builder.icmp_unsigned("!=", value, value.type(int(result)))
            bad = builder.or_(bad, wrong)
        with builder.if_then(bad, likely=False):
            builder.ret(_I32(1))

    return emit if place else None


def _loop(
    operation: Callable[..., Any], operands: Sequence[Any], out: np.ndarray
) -> _Emitter | None:
    """out = operation(*operands), entry by entry.

    operands: arrays of the shape of ``out``, or of one number, or numbers.
    """
    kind = _FLOATS.get(out.dtype)
    if kind is None or not out.flags.c_contiguous:
        return None
    for x in operands:
        if not isinstance(x, np.ndarray):
            if type(x) not in (int, float):
                return None
        elif x.dtype != out.dtype or not (
            x.size == 1 or x.shape == out.shape and x.flags.c_contiguous
        ):
            return None

    def emit(builder: Any, places: Places) -> None:
        def write(first: Any, lanes: int) -> None:
            """Entries from ``first`` on, as many as there are lanes."""
            vector = ir.VectorType(kind, lanes)

            def at(array: np.ndarray) -> Any:
                pointer = builder.gep(places.pointer(builder, array, kind), [first])
                return builder.bitcast(pointer, vector.as_pointer())

            def read(x: Any) -> Any:
                if not isinstance(x, np.ndarray):
                    return ir.Constant(vector, [float(out.dtype.type(x))] * lanes)
                if x.size > 1:
                    return builder.load(at(x), align=out.itemsize)
                one = builder.load(places.pointer(builder, x, kind))
                nothing = ir.Constant(vector, ir.Undefined)
                same = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
                first_lane = builder.insert_element(nothing, one, _I32(0))
                return builder.shuffle_vector(first_lane, nothing, same)

            value = operation(builder, *[read(x) for x in operands])
            builder.store(value, at(out), align=out.itemsize)

        whole = out.size // _LANES
        if whole:
            with cgutils.for_range(builder, _SIZE(whole)) as loop:
                write(builder.mul(loop.index, _SIZE(_LANES)), _LANES)
        if out.size % _LANES:
            write(_SIZE(whole * _LANES), out.size % _LANES)

    return emit
