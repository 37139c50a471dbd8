"""Numbers as people write them on command lines: ``100KB``, ``5%``, ``50ms``."""

from __future__ import annotations

import re
from typing import Final

import click

__all__ = ["SECONDS", "SHARE", "SIZE", "Quantity", "format_bytes"]

NUMBER: Final = r"(\d{1,15}(?:\.\d{1,9})?)\s*"
BYTES: Final = {
    "": 1.0,
    "b": 1.0,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2.0**10,
    "mib": 2.0**20,
    "gib": 2.0**30,
}
TIMES: Final = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
SHARES: Final = {"": 1.0, "%": 0.01}


class Quantity(click.ParamType):  # type: ignore[type-arg] # generic in its newest version only
    """A number with a unit; the value is in the base unit."""

    def __init__(
        self, name: str, units: dict[str, float], example: str, most: float = float("inf")
    ) -> None:
        self.name = name
        self._units = units
        self._example = example
        self._most = most

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the value in the base unit; fails the command line for what is none."""
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(NUMBER + "([A-Za-z%]*)", str(value).strip())
        unit = None if found is None else self._units.get(found[2].lower())
        if found is None or unit is None:
            self.fail(f"{str(value)[:40]!r} is no {self.name}: write {self._example}", param, ctx)
        number = float(found[1]) * unit
        if number > self._most:
            self.fail(f"{str(value)[:40]!r} is above {self._most:g}", param, ctx)
        return number


SIZE: Final = Quantity("size", BYTES, "100KB, 8MB or 1MiB")
SHARE: Final = Quantity("share", SHARES, "5% or 0.05", most=1.0)
SECONDS: Final = Quantity("time", TIMES, "0.5s, 50ms or 2min")


def format_bytes(nbytes: float) -> str:
    """Return a size with three digits and a unit."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes:.0f} B"
