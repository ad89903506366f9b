"""What ops share: calling one another, and saying how their second derivative is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def call(op: Callable[..., Any], *args: Any, **params: Any) -> Any:
    """Value of ``op``: computed here for arrays, through their own door for tensors."""
    for arg in args:
        door = getattr(arg, "apply", None)
        if door is not None:
            return door(op, *args, **params)
    return op(*args, **params)[0]


def takes_gaps(op: Any) -> Any:
    """Decorator: the vjp of this op is given None for a result that nobody used."""
    op.takes_gaps = True
    return op


def composed_as(other: Callable[..., Any]) -> Callable[[Any], Any]:
    """Decorator: higher derivatives of this fused op are those of ``other``."""

    def mark(op: Any) -> Any:
        op.composed = other
        return op

    return mark


def first_order_only(instead: str) -> Callable[[Any], Any]:
    """Decorator: this fused op has no second derivative; ``instead`` says what to use."""

    def mark(op: Any) -> Any:
        op.first_order_only = instead
        return op

    return mark
