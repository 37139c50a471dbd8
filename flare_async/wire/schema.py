"""Control messages as closed schemas: frozen dataclasses to a msgpack array and back.

A schema is a list of (tag, dataclass). On the wire a message is ``[tag, field, ...]``; nothing else
is understood: no unknown tag, no missing or additional field, no value of another type.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Final, Generic, TypeVar, cast

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.converters import Mismatch
from flare_async.wire.fields import shown
from flare_async.wire.packing import pack, unpack
from flare_async.wire.records import Record, Registry
from flare_async.wire.scan import scan

__all__ = ["Schema"]

MessageT = TypeVar("MessageT")
_MAX_TAG: Final = 2**16


class Schema(Generic[MessageT]):
    """Encodes and decodes messages of the registered dataclasses.

    Fields may be int, float, str, bytes, bool, optional ones, ``tuple[T, ...]``,
    ``Mapping[str, T]``, unions of those that differ on the wire, and dataclasses: registered or
    not, but registered ones only where a union has several. Annotations are resolved here, once.

    Raises:
        LocalProtocolError: a tag or class twice, a class that is no dataclass, or a field's type
            that is not supported.
    """

    __slots__ = ("_by_tag", "_by_type", "_depth")

    def __init__(self, *entries: tuple[int, type[MessageT]]) -> None:
        tags: dict[type, int] = {made: tag for tag, made in entries}
        if len(tags) != len(entries) or len(set(tags.values())) != len(entries):
            raise LocalProtocolError(f"a schema of {len(entries)} entries repeats a tag or a class")
        for made, tag in tags.items():
            if not is_dataclass(made) or not 0 <= tag < _MAX_TAG:
                raise LocalProtocolError(f"{made.__name__} with tag {tag} cannot be an entry")
        registry = Registry(tags)
        self._by_type: dict[type, tuple[int, Record]] = {
            made: (tag, registry.record(made)) for made, tag in tags.items()
        }
        self._by_tag: dict[int, Record] = dict(self._by_type.values())
        self._depth = max((record.depth for record in self._by_tag.values()), default=1)

    def encode(self, message: MessageT) -> bytes:
        """Return a message as bytes.

        Raises:
            LocalProtocolError: its type is not registered, or a field has another type than
                annotated.
        """
        entry = self._by_type.get(type(message))
        if entry is None:
            raise LocalProtocolError(f"{type(message).__name__} is not in the schema")
        tag, record = entry
        try:
            return pack([tag, *record.encode(message)])
        except Mismatch as error:
            raise LocalProtocolError(error.text(type(message).__name__)) from None

    def decode(self, data: bytes | bytearray | memoryview, limits: Limits) -> MessageT:
        """Return the message in data.

        Raises:
            RemoteProtocolError: data is not exactly one message of the schema within the limits;
                the text names the field.
        """
        if len(data) > limits.control_bytes:
            raise RemoteProtocolError(
                "message_too_long", f"{len(data)} bytes, at most {limits.control_bytes}"
            )
        body = bytes(data)
        # No value takes less than a byte, and the schema itself admits no deeper nesting.
        if len(body) > limits.control_items or self._depth > limits.depth:
            scan(body, limits.control_items, limits.depth)
        values = unpack(body)
        if type(values) is not list or not values:
            raise RemoteProtocolError("bad_message", "not an array that begins with a tag")
        record = self._record(values[0])
        try:
            return cast("MessageT", record.decode(values[1:]))
        except Mismatch as error:
            raise RemoteProtocolError("bad_message", error.text(record.name)) from None

    def _record(self, tag: object) -> Record:
        record = self._by_tag.get(tag) if type(tag) is int else None
        if record is None:
            raise RemoteProtocolError("bad_message", f"unknown tag {shown(tag)}")
        return record
