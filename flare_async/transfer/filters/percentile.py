"""Percentile privacy: only the largest changes leave a site, and those are clipped.

Shokri and Shmatikov, "Privacy-preserving deep learning", CCS 2015. With d the change of a value
in one step (the difference divided by ``NUM_STEPS_CURRENT_ROUND``) and c the percentile of |d| over
the whole model:

    d' = 0 where |d| < c,  else clip(d, -gamma, gamma).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.model import MetaKey
from flare_async.transfer.filters.cells import Floats, cellwise, float_values
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.filters.selection import abs_percentile
from flare_async.transfer.source import TensorSource

__all__ = ["PercentilePrivacy", "positive_number", "steps_of"]


class PercentilePrivacy(Filter):
    """Sends the changes at or above a percentile of their size, clipped to ``gamma`` a step.

    Reads the update several times and holds half a megabyte; scalars are treated as all others.

    Raises:
        ConfigError: a parameter is out of range.
    """

    differences = True

    def __init__(self, percentile: float = 10, gamma: float = 0.01) -> None:
        if not 0 <= percentile <= 100:
            raise ConfigError("percentile", percentile, "a number from 0 to 100 is needed")
        self.percentile = percentile
        self.gamma = positive_number("gamma", gamma)

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the difference without its small changes.

        Raises:
            TensorFormatError: a value is not finite, or the steps are no number above 0.
        """
        steps = steps_of(passage)
        cutoff = abs_percentile(
            lambda: (a_step(values, steps) for values in float_values(source)),
            self.percentile,
        )

        def change(_tensor: int, _cell: int, values: Floats) -> Floats:
            step = a_step(values, steps)
            kept = np.where(np.abs(step) < cutoff, 0, np.clip(step, -self.gamma, self.gamma))
            return (kept * steps).astype(values.dtype, copy=False)

        return cellwise(source, change)


def a_step(values: Floats, steps: float) -> Floats:
    """Return the changes of one step, in float32 at least: a half has no room for many steps."""
    wide = np.result_type(values.dtype, np.float32)
    return cast("Floats", values / wide.type(steps))


def steps_of(passage: Passage) -> float:
    """Return the steps that an update says it took; 1 without them.

    Raises:
        TensorFormatError: they are no number above 0.
    """
    steps = passage.meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND, 1.0)
    if isinstance(steps, bool) or not isinstance(steps, int | float) or not 0 < steps < math.inf:
        raise TensorFormatError(f"NUM_STEPS_CURRENT_ROUND is {steps!r:.40}, a number is needed")
    return float(steps)


def positive_number(field: str, value: object) -> float:
    """Return ``value`` when it is a finite number above 0. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(field, value, "a number above 0 is needed")
    return float(value)
