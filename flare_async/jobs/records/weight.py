"""What a record takes in memory, roughly: enough to bound those that wait or are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flare_async.roles.log_record import LogValue

__all__ = ["weight"]

BASE: Final = 320  # the record itself, its number, and its place in a queue
TEXT: Final = 50
NUMBER: Final = 32
ENTRY: Final = 104  # of a dict, without key and value
ITEM: Final = 8


def weight(key: str, value: LogValue, extra: Mapping[str, LogValue]) -> int:
    """Return about how many bytes a record with these parts takes."""
    return BASE + len(key) + _of(value) + (_of(extra) if extra else 0)


def _of(value: LogValue) -> int:
    if value is None or isinstance(value, float | int):
        return NUMBER
    if isinstance(value, str):
        return TEXT + len(value)
    if isinstance(value, Mapping):
        return sum(ENTRY + len(name) + _of(item) for name, item in value.items())
    return sum(ITEM + _of(item) for item in value)
