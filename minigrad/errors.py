"""What can go wrong, as types and as words.  This module imports nothing.

Each type subclasses the built-in exception that a reader would expect, so that
``except ValueError`` and ``except RuntimeError`` written for other engines keep
working.  Messages name the op, the argument, the shapes with their axes, and a remedy.
"""

from __future__ import annotations


class MinigradError(Exception):
    """Base of every error that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes of two arguments do not fit together."""


class DTypeError(MinigradError, TypeError):
    """A dtype, or a kind of object, that the operation has no meaning for."""


class ArgumentError(MinigradError, ValueError):
    """A value outside what the operation accepts (a negative rate, an unknown name)."""


class IndexRangeError(MinigradError, IndexError):
    """An integer id or index outside the axis it points into."""


class DataError(MinigradError, ValueError):
    """A file or a data set that cannot be read or is malformed."""


class PipelineError(DataError):
    """What went wrong in a stage of a data pipeline, with its place; see ``__cause__``."""


class CheckpointError(DataError):
    """A checkpoint that cannot be read, or does not fit what it is loaded into."""


class GraphError(MinigradError, RuntimeError):
    """The graph cannot be walked: freed, not scalar, no gradient, no second derivative."""


class InplaceError(GraphError):
    """Data that a pending backward pass needs was changed, or may not be changed."""


class CaptureError(GraphError):
    """A function does something that a replay of its recorded ops would not repeat."""


class NonFiniteError(MinigradError, ArithmeticError):
    """A NaN or an infinity where only finite numbers make sense."""


class KernelMismatchError(MinigradError, AssertionError):
    """A compiled kernel and its NumPy twin disagree (``kernels.use("check")``)."""


class GradcheckError(MinigradError, AssertionError):
    """An analytic gradient and a central difference disagree."""


class PatternWarning(UserWarning):
    """A loss put together in a way that trains badly; see :mod:`minigrad.patterns`."""


def axes(shape: tuple[int, ...], names: str | None = None) -> str:
    """Spell a shape for an error message, with axis letters when they are known.

    >>> axes((64, 10, 27), "NTD")
    '(N=64, T=10, D=27)'
    >>> axes((3,))
    '(3,)'
    """
    if names is None or len(names) != len(shape):
        return str(tuple(shape))
    inside = ", ".join(f"{name}={size}" for name, size in zip(names, shape))
    return f"({inside},)" if len(shape) == 1 else f"({inside})"
