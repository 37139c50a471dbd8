"""How records travel: what a server and a site say to each other on the channel of logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.roles.log_record import AnalyticsDataType, LogRecord, LogValue
from flare_async.wire.packing import pack, unpack
from flare_async.wire.scan import scan
from flare_async.wire.schema import Schema

__all__ = [
    "LOG_SCHEMA",
    "LOG_TOPIC",
    "SUBSCRIBE_SCHEMA",
    "Batch",
    "Entry",
    "LogMessage",
    "Logged",
    "Subscribe",
    "Taken",
    "entry_of",
    "record_of",
]

LOG_TOPIC = "logs"
LONGEST_KEY: Final = 1024
WORD: Final = 2**63  # what the stores of trackers hold as a step
KINDS: Final = frozenset(str(kind) for kind in AnalyticsDataType)
Packed: TypeAlias = str | int | float | bool | bytes | None  # bytes are a packed list or mapping


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A job whose records the server wants; travels in the header of the channel's open.

    It has those of ``feed`` up to number ``after``; those of another feed it has not seen.
    """

    job: str
    feed: bytes = b""
    after: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; ``age`` is how many seconds ago it was made, its number tells it from others."""

    number: int
    round_number: int
    age: float
    key: str
    value: Packed
    kind: str
    step: int | None = None
    extra: Mapping[str, Packed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of a feed, by rising numbers; ``dropped`` counts those that found no room so far."""

    feed: bytes
    dropped: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has all records up to this number: the site may forget them."""

    through: int


@dataclass(frozen=True, slots=True)
class Logged:
    """A record as the server has it: its round, and when it was made by the server's clock."""

    site: str
    round_number: int
    at: float
    record: LogRecord


LogMessage: TypeAlias = Batch | Taken
LOG_SCHEMA: Schema[LogMessage] = Schema((1, Batch), (2, Taken))
SUBSCRIBE_SCHEMA: Schema[Subscribe] = Schema((1, Subscribe))


def entry_of(record: LogRecord, number: int, round_number: int, age: float = 0.0) -> Entry:
    """Return a record as it travels. Raises LocalProtocolError where it cannot."""
    extra = {name: _packed(value) for name, value in record.extra.items()}
    value = _packed(record.value)
    return Entry(number, round_number, age, record.key, value, record.kind, record.step, extra)


def record_of(entry: Entry, limits: Limits) -> LogRecord:
    """Return the record that has travelled; a feed asks before it sends one.

    Raises:
        RemoteProtocolError: key, kind, step or a value is none, or has too many parts or levels.
    """
    if not 0 < len(entry.key) <= LONGEST_KEY or entry.kind not in KINDS:
        raise RemoteProtocolError("bad_record", f"key of {len(entry.key)}, kind {entry.kind!r:.40}")
    if not all(-WORD <= number < WORD for number in (entry.step or 0, entry.round_number)):
        raise RemoteProtocolError("bad_record", f"step {entry.step}, round {entry.round_number}")
    extra = {name: _unpacked(value, limits) for name, value in entry.extra.items()}
    value = _unpacked(entry.value, limits)
    return LogRecord(entry.key, value, entry.kind, entry.step, extra)


def _packed(value: LogValue) -> Packed:
    nested = isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    return pack(_builtin(value)) if nested else cast("Packed", value)


def _builtin(value: LogValue) -> object:
    if isinstance(value, Mapping):
        return {name: _builtin(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_builtin(item) for item in value]
    return value


def _unpacked(value: Packed, limits: Limits) -> LogValue:
    if not isinstance(value, bytes):
        return value
    scan(value, limits.control_items, limits.depth)
    return _checked(unpack(value))


def _checked(value: object) -> LogValue:
    # As deep as ``scan`` has allowed.
    if isinstance(value, dict):
        return {name: _checked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_checked(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RemoteProtocolError("bad_message", f"a record holds {type(value).__name__}")
