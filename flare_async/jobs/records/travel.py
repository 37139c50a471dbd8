"""How records travel between processes of one machine, inside of their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.site import plain
from flare_async.roles.log_record import AnalyticsDataType, LogRecord

__all__ = ["packed_records", "read_records"]

KINDS: Final = frozenset(str(kind) for kind in AnalyticsDataType)


def packed_records(records: Sequence[LogRecord]) -> list[object]:
    """Return records as plain values. Raises ConfigError where one is none."""
    return [
        [
            one.key,
            plain(one.key, one.value),
            one.kind,
            one.step,
            {name: plain(name, value) for name, value in one.extra.items()},
        ]
        for one in records
    ]


def read_records(values: object) -> tuple[LogRecord, ...]:
    """Return the records that were packed.

    Raises:
        TypeError: they are not what ``packed_records`` makes.
        ConfigError: a value in one is none.
    """
    if type(values) is not list:
        raise TypeError(f"records are a list, got {type(values).__name__}")
    return tuple(_read(value) for value in values)


def _read(value: object) -> LogRecord:
    if type(value) is not list or len(value) != 5:
        raise TypeError("a record has five parts")
    key, content, kind, step, extra = cast("list[object]", value)
    if type(key) is not str or kind not in KINDS or type(extra) is not dict:
        raise TypeError("a record has a key, a kind and a mapping")
    if step is not None and type(step) is not int:
        raise TypeError("a record's step is a whole number")
    words = cast("dict[object, object]", extra)
    if not all(type(name) is str for name in words):
        raise ConfigError(key, "extra", "a key must be text")
    more = {str(name): plain(str(name), item) for name, item in words.items()}
    return LogRecord(key, plain(key, content), str(kind), step, more)
