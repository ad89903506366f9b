"""Where the windows of convolutions and poolings are: sizes, strides and padding, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Axis(NamedTuple):
    """Windows along one axis of an image; all in pixels."""

    size: int  # of the image
    window: int  # cells of a window
    stride: int  # from one window to the next
    dilation: int  # from one cell to the next
    before: int  # padding
    after: int
    out: int  # how many windows there are

    @property
    def reach(self) -> int:
        """From the first cell of a window to its last, both included."""
        return (self.window - 1) * self.dilation + 1


def pair(op: str, name: str, value: Any) -> tuple[int, int]:
    """(height, width) from one positive integer for both, or two.  Raises ArgumentError."""
    both = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(both, (tuple, list)) or len(both) != 2
        or any(not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1 for n in both)
    ):  # fmt: skip
        raise ArgumentError(
            f"{op}: {name} must be a positive integer, or two: (height, width); got {value!r}"
        )
    return int(both[0]), int(both[1])


def paddings(op: str, padding: Any) -> Any:
    """"same", "valid", or ((top, bottom), (left, right)).  Raises ArgumentError."""
    if isinstance(padding, str) and padding.lower() in ("same", "valid"):
        return padding.lower()
    widths: Any = padding
    if isinstance(widths, (int, np.integer)) and not isinstance(widths, bool):
        widths = (widths, widths)
    if isinstance(widths, (tuple, list)) and len(widths) == 2:
        pairs = [(n, n) if isinstance(n, (int, np.integer)) else n for n in widths]
        if all(isinstance(p, (tuple, list)) and len(p) == 2 for p in pairs) and all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0
            for p in pairs for n in p
        ):  # fmt: skip
            (top, bottom), (left, right) = pairs
            return (int(top), int(bottom)), (int(left), int(right))
    raise ArgumentError(
        f"{op}: padding must be 'same', 'valid', a number of pixels, (height, width) or "
        f"((top, bottom), (left, right)); got {padding!r}"
    )


def axes_of(
    op: str, size: Any, window: Any, stride: Any, dilation: Any, padding: Any
) -> tuple[Axis, Axis]:
    """Height and width of an image of ``size`` under windows; all but padding are pairs.

    "same" is TensorFlow's rule: ceil(size / stride) windows, the smaller half of the padding
    that this needs before the image, the larger after.  "valid": no padding.
    Raises ArgumentError for a padding that is none, ShapeError if no window fits.
    """
    widths = paddings(op, padding)
    found = []
    for k in range(2):
        n, reach, step = size[k], (window[k] - 1) * dilation[k] + 1, stride[k]
        if widths == "same":
            out = -(-n // step)
            total = max((out - 1) * step + reach - n, 0)
            before, after = total // 2, total - total // 2
        else:
            before, after = (0, 0) if widths == "valid" else widths[k]
            out = (n + before + after - reach) // step + 1
        if n < 1 or out < 1:
            raise ShapeError(
                f"{op}: a window that reaches over {reach} pixels does not fit into the {n} pixels "
                f"and {before + after} of padding of x's {('height', 'width')[k]} (axis {k + 1}); "
                "use padding='same' or a smaller window"
            )
        found.append(Axis(n, window[k], step, dilation[k], before, after, out))
    return found[0], found[1]


def check_image(op: str, x: Any) -> None:
    """Raise ShapeError or DTypeError unless x is a batch of images of floats."""
    if x.ndim != 4:
        hint = "; one image needs a batch axis: x[None]" if x.ndim == 3 else ""
        raise ShapeError(f"{op}: x must be (N, H, W, C), got shape {x.shape}{hint}")
    if x.dtype not in FLOATS:
        raise DTypeError(f"{op}: x must be float32 or float64, got {x.dtype}; use x.astype")


# -- telling how padding falls out -------------------------------------------------------------


def explain_padding(
    size: Any, window: Any, stride: Any = 1, padding: Any = "same", dilation: Any = 1
) -> None:
    """Print how the windows of a convolution or pooling fall on an image.

    size, window, stride, dilation: pixels, one number or (height, width); padding: as for
    conv2d.  For each axis: how many outputs there are and why, the padding before and after,
    and which pixels each output sees (``.`` is padding).  Raises ArgumentError or ShapeError as
    conv2d does.  The rule for "same" is TensorFlow's (tf.nn, notes on padding).

    >>> import minigrad as mg
    >>> mg.explain_padding((4, 4), window=3, stride=2)
    height: 4 rows, a window of 3, stride 2
      outputs = ceil(4 / 2) = 2
      padding = max((2 - 1) * 2 + 3 - 4, 0) = 1: 0 before, 1 after
      output 0 sees rows 0 1 2
      output 1 sees rows 2 3 .
    width: the same
    """
    op = "explain_padding"
    size, window = pair(op, "size", size), pair(op, "window", window)
    stride, dilation = pair(op, "stride", stride), pair(op, "dilation", dilation)
    both = axes_of(op, size, window, stride, dilation, padding)
    rule = paddings(op, padding)
    print(_explained("height", "rows", both[0], rule))
    if both[0] == both[1]:
        print("width: the same")
    else:
        print(_explained("width", "columns", both[1], rule))


_SHOWN = 3  # outputs at each end, if there are many


def _explained(name: str, lines: str, axis: Axis, rule: Any) -> str:
    n, _, step, apart, before, after, out = axis
    window = f"{axis.window}" if apart == 1 else f"{axis.window}, {apart} apart: {axis.reach}"
    text = [f"{name}: {n} {lines}, a window of {window}, stride {step}"]
    if rule == "same":
        text += [
            f"  outputs = ceil({n} / {step}) = {out}",
            f"  padding = max(({out} - 1) * {step} + {axis.reach} - {n}, 0) = {before + after}: "
            f"{before} before, {after} after",
        ]
    else:
        text += [
            f"  padding: {before} before, {after} after",
            f"  outputs = floor(({n + before + after} - {axis.reach}) / {step}) + 1 = {out}",
        ]
    unseen = n + before - (out - 1) * step - axis.reach
    if unseen > 0:
        text.append(f"  the last {unseen} {lines} are seen by no output")
    for i in range(out):
        if _SHOWN <= i < out - _SHOWN and out > 2 * _SHOWN + 1:
            if i == _SHOWN:
                text.append("  ...")
            continue
        cells = (i * step - before + k * apart for k in range(axis.window))
        seen = " ".join(str(cell) if 0 <= cell < n else "." for cell in cells)
        text.append(f"  output {i} sees {lines} {seen}")
    return "\n".join(text)
