"""Training that can be stopped at any moment: everything it depends on in one file.

    from minigrad import checkpoint

    kept = {"model": model, "optimizer": optimizer, "schedule": schedule, "batches": batches,
            "generator": generator, "losses": losses}     # all these are changed in place
    folder = checkpoint.Folder("runs/mine", keep=3)
    first, state = 0, None
    if folder.newest is not None:
        rest = folder.load(**kept)                         # what is not in kept comes back
        first, state = rest["step"], rest["state"]
    for step in range(first, 1000):
        if step % 100 == 0:
            folder.save(step, state=state, **kept)
        ...

A run that was killed and goes on like this ends with the same bits as one that was not.

A file is a ``.npz`` (``numpy.load(path)["model/lstm.w_h"]`` works) with its structure as JSON
in it.  Loading makes numbers, text, arrays, tensors, generators, lists, tuples and dicts, never
anything else, and runs no code from the file.  It is written beside the old one and put in its
place when it is whole and on the disk.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import ArgumentError
from . import file
from .folder import Folder
from .restore import restore
from .tensors import load_safetensors, save_safetensors
from .tree import Packer, Unpacker

__all__ = [
    "Folder", "load", "load_safetensors", "read", "restore", "save", "save_safetensors", "snapshot",
]  # fmt: skip


def save(path: str | os.PathLike[str], **values: Any) -> None:
    """Write everything in ``values`` into one file, in place of what was there, all or nothing.

    values: whatever has ``state_dict()`` (modules, optimisers, schedules, batches, recorders),
    generators, tensors without a graph, arrays, numbers, text, None, and lists, tuples (named
    ones too) and dicts of these.

    Raises DTypeError for other things, ArgumentError for a tensor that belongs to a graph, and
    OSError if the file cannot be written; what was there stays then.

    >>> import tempfile
    >>> import minigrad as mg
    >>> from minigrad import checkpoint, nn
    >>> layer = nn.Linear(2, 1, generator=mg.manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save(f"{folder}/mine.npz", model=layer, step=7)
    ...     rest = checkpoint.load(f"{folder}/mine.npz", model=layer)
    >>> rest
    {'step': 7}
    """
    packer = Packer()
    content = {name: packer.pack(value, name) for name, value in values.items()}
    file.write(path, content, packer.arrays)


def snapshot(values: Any, *records: type) -> Any:
    """A copy of ``values`` as :func:`read` would give it, without a file.

    What happens to a model, a list or an array later does not change it.  Raises as
    :func:`save` and :func:`read` do.

    >>> from minigrad import checkpoint
    >>> losses = [0.5, 0.25]
    >>> before = checkpoint.snapshot({"losses": losses})
    >>> losses.append(0.125)
    >>> before
    {'losses': [0.5, 0.25]}
    """
    packer = Packer()
    packed = packer.pack(values, "values")
    arrays = {name: array.copy(order="K") for name, array in packer.arrays.items()}
    return Unpacker(arrays, records).unpack(packed)


def read(path: str | os.PathLike[str], *records: type) -> dict[str, Any]:
    """Everything in a checkpoint, as values: a model is a dict of its arrays, say.

    records: classes of the named tuples in it; those of other classes become plain tuples.
    Raises CheckpointError for a file that is damaged or none of minigrad's, OSError if it
    cannot be read.

    >>> import tempfile
    >>> import minigrad as mg
    >>> from minigrad import checkpoint, nn
    >>> layer = nn.Linear(2, 1, generator=mg.manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save(f"{folder}/mine.npz", model=layer, losses=[0.5, 0.25])
    ...     values = checkpoint.read(f"{folder}/mine.npz")
    >>> values["losses"], values["model"]["bias"]
    ([0.5, 0.25], array([0.], dtype=float32))
    """
    content, arrays = file.read(path)
    with file.naming(path):
        return Unpacker(arrays, records).unpack_dict(content)


def load(path: str | os.PathLike[str], *records: type, **objects: Any) -> dict[str, Any]:
    """Bring objects into the state that they were saved in; returns what else there is.

    objects: under the names they were saved by.  Modules, optimisers, schedules, generators,
    arrays, tensors, lists, dicts, and all else with ``load_state_dict``, are changed in place.
    records: as for :func:`read`.  What was saved under other names (a step, a state) is
    returned, name -> value.

    Raises CheckpointError for a file that is damaged or does not fit: one error lists every
    difference in names, shapes and dtypes.  Raises ArgumentError for an object that cannot be
    changed in place, OSError if the file cannot be read.  Nothing is changed then.

    >>> import tempfile
    >>> import minigrad as mg
    >>> from minigrad import checkpoint, nn
    >>> layer = nn.Linear(2, 1, generator=mg.manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save(f"{folder}/mine.npz", model=layer, step=7)
    ...     layer.weight.data += 1                                  # what is lost again
    ...     rest = checkpoint.load(f"{folder}/mine.npz", model=layer)
    >>> rest
    {'step': 7}
    """
    for record in records:
        if not hasattr(record, "_fields"):
            raise ArgumentError(
                f"checkpoint.load: expects classes of named tuples, then name=object; got {record}"
            )
    saved = read(path, *records)
    restore(saved, objects, f"checkpoint {os.fspath(path)}")
    return {name: value for name, value in saved.items() if name not in objects}
