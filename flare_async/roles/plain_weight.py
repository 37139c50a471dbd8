"""Weights as user code returns them."""

from __future__ import annotations

from numbers import Real
from typing import cast

__all__ = ["plain_weight"]


def plain_weight(value: object) -> float:
    """Return a number as Python's own, whose arithmetic differs from NumPy's; others as they are.

    What is no number is refused where weights are checked.
    """
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        return cast("float", value)
    return float(value)
