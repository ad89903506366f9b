"""Weights as safetensors, which other programs read too (``pip install minigrad[safetensors]``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, CheckpointError, DTypeError
from ..files import replacing
from ..nn.module import Module
from .restore import restore


def save_safetensors(
    path: str | os.PathLike[str],
    weights: Module | Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the parameters and buffers of a module, or named arrays, in place of ``path``.

    metadata: text by name, written with them.  Raises ArgumentError if the package safetensors
    is not installed, DTypeError for other things than named arrays of numbers, OSError.
    """
    state = weights.state_dict() if isinstance(weights, Module) else weights
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise DTypeError("save_safetensors: expects a module, or a dict of named arrays")
    arrays = {name: np.ascontiguousarray(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"save_safetensors: {name} is {array.dtype}; numbers can be saved")
        arrays[name] = array.reshape(np.shape(state[name]))
    if not all(isinstance(t, str) for pair in (metadata or {}).items() for t in pair):
        raise DTypeError("save_safetensors: metadata must be text by name")
    data = _package().save(arrays, dict(metadata) if metadata else None)
    with replacing(path, sync=True) as file:
        file.write(data)


def load_safetensors(
    path: str | os.PathLike[str], model: Module | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name; put into ``model`` if one is given.

    Raises ArgumentError if the package safetensors is not installed, CheckpointError for a
    file that is damaged, or does not fit the model, with every difference; OSError if it
    cannot be read.  The model is unchanged then.
    """
    package = _package()
    try:
        arrays = package.load(Path(path).read_bytes())
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and KeyError for dtypes that NumPy has not
        raise CheckpointError(f"{os.fspath(path)} is no safetensors file ({error})") from error
    if model is not None:
        restore({"model": arrays}, {"model": model}, os.fspath(path))
    return arrays


def _package() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ArgumentError(
            "safetensors is not installed: pip install 'minigrad[safetensors]'"
        ) from error
    return safetensors.numpy
