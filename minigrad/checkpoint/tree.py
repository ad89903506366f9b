"""Values as JSON text and a set of arrays, and back.

What JSON does not have is an object with one key that begins with a dollar sign:

    {"$array": "losses"}                 the array of that name
    {"$tensor": "state/0"}               the same as a Tensor, without a gradient
    {"$number": "best"}                  a number of NumPy's: an array of shape ()
    {"$numbers": "seen"}                 a list of Python's floats, integers or truth values
    {"$stack": "norms"}                  a list of arrays, or of NumPy's numbers: its rows
    {"$tuple": [...]}                    a tuple
    {"$record": ["Look", [...]]}         a named tuple, by the name of its class
    {"$columns": ["Look", n, [...]]}     a list of n tuples (null) or records, column by column
    {"$float": "nan"}                    a float that is not finite
    {"$generator": {...}}                a np.random.Generator, as the state of its bit generator
    {"$dict": [[key, value], ...]}       a dict whose keys are not plain names

So reading makes these and nothing else: no class is looked up anywhere but among those that
the caller hands in, and none of them is called with anything but such values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, CheckpointError, DTypeError
from ..tensor import Tensor
from .generators import load_generator, save_generator

_DTYPES = {
    np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128",
    )
}  # fmt: skip
_FEW = 4  # a list that is shorter stays as it is
_LONG = 2**63
_NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Packer:
    """Makes JSON of values; ``arrays`` collects what is too much for it: name -> array.

    The arrays are those that were given, not copies.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def pack(self, value: Any, where: str) -> Any:
        """``value`` as JSON knows it.  where: the name of its arrays, ``model/lstm.w_h`` say.

        What has a ``state_dict()`` is packed as that.  Raises DTypeError for what cannot be
        saved, ArgumentError for a tensor that belongs to a graph, and for a list that contains
        itself.
        """
        try:
            return self._pack(value, where)
        except RecursionError as error:
            raise ArgumentError(
                f"checkpoint: {where} is nested too deeply, or contains itself"
            ) from error

    def _pack(self, value: Any, where: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, Tensor):
            if value.node is not None:
                raise ArgumentError(
                    f"checkpoint: {where} is the result of {value.node.name!r}, and its graph "
                    "cannot be saved; detach it (state.detach(), or nn.detach(state))"
                )
            return {"$tensor": self._array(value.array, where)}
        if isinstance(value, np.ndarray):
            return {"$array": self._array(value, where)}
        if isinstance(value, np.generic):
            return {"$number": self._array(np.asarray(value), where)}
        if isinstance(value, np.random.Generator):
            return {"$generator": self._pack(save_generator(value, where), where)}
        if hasattr(value, "state_dict"):
            return self._pack(value.state_dict(), where)
        if isinstance(value, Mapping):
            return self._mapping(value, where)
        if type(value) is list:
            return self._list(value, where)
        if isinstance(value, tuple):
            items = self._each(value, where)
            if hasattr(value, "_fields"):
                return {"$record": [type(value).__name__, items]}
            return {"$tuple": items}
        raise DTypeError(
            f"checkpoint: {where} is a {type(value).__name__}, which cannot be saved; numbers, "
            "text, arrays, tensors, generators, lists, tuples and dicts of them can, and what "
            "has state_dict() and load_state_dict()"
        )

    def _each(self, values: Sequence[Any], where: str) -> list[Any]:
        return [self._pack(item, f"{where}/{i}") for i, item in enumerate(values)]

    def _mapping(self, value: Mapping[Any, Any], where: str) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self._pack(item, f"{where}/{key}") for key, item in value.items()}
        return {
            "$dict": [
                [self._pack(key, where), self._pack(item, f"{where}/{key}")]
                for key, item in value.items()
            ]
        }

    def _list(self, value: list[Any], where: str) -> Any:
        kind = type(value[0]) if len(value) >= _FEW else None
        if kind is None or any(type(item) is not kind for item in value):
            return self._each(value, where)
        first: Any = value[0]
        if kind in (bool, float) or (kind is int and all(-_LONG <= x < _LONG for x in value)):
            return {"$numbers": self._array(np.array(value), where)}
        if isinstance(first, np.generic) or (kind is np.ndarray and first.ndim):
            if all(x.dtype == first.dtype and x.shape == first.shape for x in value):
                return {"$stack": self._array(np.array(value), where)}
        if isinstance(first, tuple) and first and all(len(item) == len(first) for item in value):
            columns = [
                self._list(list(column), f"{where}/{i}") for i, column in enumerate(zip(*value))
            ]
            return {"$columns": [_record(kind), len(value), columns]}
        return self._each(value, where)

    def _array(self, array: np.ndarray, where: str) -> str:
        if array.dtype.newbyteorder("=") not in _DTYPES:
            raise DTypeError(
                f"checkpoint: {where} is an array of {array.dtype}, which cannot be saved; "
                "numbers and truth values can"
            )
        name, more = where, 1
        while name in self.arrays:
            more += 1
            name = f"{where} ({more})"
        self.arrays[name] = array
        return name


def _record(kind: type) -> str | None:
    return kind.__name__ if hasattr(kind, "_fields") else None


class Unpacker:
    """Makes values of what :class:`Packer` made.

    arrays: by name.  records: classes of named tuples; a record of another class becomes a
    plain tuple.  Every array comes out once, and belongs to the value.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], records: Sequence[type] = ()) -> None:
        self._arrays = dict(arrays)
        self._records = {record.__name__: record for record in records}

    def unpack(self, packed: Any) -> Any:
        """The value.  Raises CheckpointError for anything that Packer does not write."""
        try:
            return self._unpack(packed)
        except RecursionError as error:
            raise CheckpointError("its structure is nested too deeply") from error

    def unpack_dict(self, packed: Any) -> dict[str, Any]:
        """The values of a dict by name.  Raises CheckpointError if it is none."""
        value = self.unpack(packed)
        if not isinstance(value, dict):
            raise CheckpointError(f"its content is a {type(value).__name__}, not named values")
        return value

    def _unpack(self, packed: Any) -> Any:
        if packed is None or isinstance(packed, (bool, int, float, str)):
            return packed
        if isinstance(packed, list):
            return [self._unpack(item) for item in packed]
        tag = next(iter(packed), "")
        if not tag.startswith("$"):
            return {key: self._unpack(item) for key, item in packed.items()}
        made = getattr(self, f"_{tag[1:]}", None) if tag in _TAGS and len(packed) == 1 else None
        if made is None:
            raise CheckpointError(f"its structure has an unknown entry {tag!r}")
        return made(packed[tag])

    def _array(self, name: Any) -> np.ndarray:
        if not isinstance(name, str) or name not in self._arrays:
            raise CheckpointError(f"its structure names an array {name!r} that is not there")
        return self._arrays.pop(name)

    def _tensor(self, name: Any) -> Tensor:
        array = self._array(name)
        return Tensor(array, dtype=array.dtype)

    def _number(self, name: Any) -> Any:
        array = self._array(name)
        if array.ndim:
            raise CheckpointError(f"{name} is no number but an array of shape {array.shape}")
        return array[()]

    def _numbers(self, name: Any) -> list[Any]:
        array = self._array(name)
        if array.ndim != 1:
            raise CheckpointError(f"{name} is no list of numbers but of shape {array.shape}")
        return array.tolist()

    def _stack(self, name: Any) -> list[Any]:
        array = self._array(name)
        if array.ndim == 0:
            raise CheckpointError(f"{name} is no list but a number")
        return [row.copy() for row in array]

    def _tuple(self, items: Any) -> tuple[Any, ...]:
        return tuple(self._items(items))

    def _items(self, items: Any, length: int | None = None) -> list[Any]:
        if not isinstance(items, list) or (length is not None and len(items) != length):
            raise CheckpointError("its structure has a list of the wrong length, or none")
        return [self._unpack(item) for item in items]

    def _record(self, entry: Any) -> tuple[Any, ...]:
        if not isinstance(entry, list) or len(entry) != 2:
            raise CheckpointError("its structure has a malformed record")
        return self._made(entry[0], tuple(self._items(entry[1])))

    def _made(self, name: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
        kind: Any = self._records.get(name) if isinstance(name, str) else None
        if kind is None:
            return items
        if len(items) != len(kind._fields):
            raise CheckpointError(
                f"a {name} has {len(items)} fields in the file, {len(kind._fields)} here"
            )
        return kind._make(items)

    def _columns(self, entry: Any) -> list[tuple[Any, ...]]:
        if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[2], list):
            raise CheckpointError("its structure has malformed columns")
        name, length, columns = entry
        values = [self._unpack(column) for column in columns]
        if any(not isinstance(v, list) or len(v) != length for v in values) or not values:
            raise CheckpointError("its structure has columns of different lengths")
        return [self._made(name, row) for row in zip(*values)]

    def _float(self, text: Any) -> float:
        if not isinstance(text, str) or text not in _NONFINITE:
            raise CheckpointError(f"its structure has an unknown number {text!r}")
        return _NONFINITE[text]

    def _generator(self, state: Any) -> np.random.Generator:
        return load_generator(self._unpack(state))

    def _dict(self, pairs: Any) -> dict[Any, Any]:
        result = {}
        for pair in pairs if isinstance(pairs, list) else [None]:
            if not isinstance(pair, list) or len(pair) != 2:
                raise CheckpointError("its structure has a malformed dict")
            key = self._unpack(pair[0])
            try:
                result[key] = self._unpack(pair[1])
            except TypeError as error:
                raise CheckpointError(f"a dict has the key {key!r}") from error
        return result


_TAGS = {
    "$array", "$tensor", "$numbers", "$stack", "$number", "$tuple", "$record", "$columns",
    "$float", "$generator", "$dict",
}  # fmt: skip
