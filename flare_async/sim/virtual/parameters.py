"""Values on the command line of ``what-if``: spreads and sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flare_async.sim.quantities import SECONDS
from flare_async.testing.spread import Spread

if TYPE_CHECKING:
    ParamType = click.ParamType[object]
else:
    ParamType = click.ParamType

__all__ = ["SPREAD", "SWEEP"]

SWEPT: Final = ("relays", "clients", "dropout", "network")


class SpreadType(ParamType):
    """Seconds as a median, or as a median and what a twentieth is beyond: ``30s..90s``."""

    name = "spread"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Spread:
        """Return the spread; fails the command line for what is none."""
        if isinstance(value, Spread):
            return value
        low, dots, high = str(value).partition("..")
        median = SECONDS.convert(low, param, ctx)
        far = SECONDS.convert(high, param, ctx) if dots else median
        if far < median or (median == 0) != (far == 0):
            self.fail(f"{value!r}: write the median first, as in 30s..90s", param, ctx)
        return Spread(median, far)


class SweepType(ParamType):
    """An option and the values that it is to have: ``relays=0,10,20``."""

    name = "sweep"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        """Return name and values; fails the command line for what is none."""
        name, _, text = str(value).partition("=")
        values = tuple(part.strip() for part in text.split(",") if part.strip())
        if name not in SWEPT or not values:
            known = ", ".join(SWEPT)
            self.fail(f"{value!r}: write NAME=VALUE,VALUE with one of {known}", param, ctx)
        return name, values


SPREAD: Final = SpreadType()
SWEEP: Final = SweepType()
