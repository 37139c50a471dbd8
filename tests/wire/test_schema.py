"""Messages as closed schemas."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from enum import IntEnum, StrEnum
from typing import NewType, Optional

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.wire.schema import Schema

LIMITS = Limits()
SiteName = NewType("SiteName", str)


class Color(StrEnum):
    """A text that is an enumeration."""

    RED = "red"


class Level(IntEnum):
    """A number that is an enumeration."""

    HIGH = 3


@dataclass(frozen=True, slots=True)
class Point:
    """Two numbers, nested."""

    x: int
    y: float

    def __post_init__(self) -> None:
        if self.x > 1000:
            raise ValueError(f"x={self.x} is too far")


@dataclass(frozen=True, slots=True)
class Empty:
    """No field."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text."""

    text: str


@dataclass(frozen=True, slots=True)
class Everything:
    """Each kind of field."""

    number: int
    real: float
    name: SiteName
    data: bytes
    flag: bool
    maybe: Optional[Point]  # noqa: UP045 - both spellings are supported
    points: tuple[Point, ...]
    metrics: Mapping[str, int | float | str | bool | None]
    choice: Empty | Text | None
    tables: dict[str, tuple[int, ...]] = field(default_factory=dict)


SCHEMA = Schema((1, Everything), (2, Empty), (3, Text))
POINTS = st.builds(Point, st.integers(-(2**63), 1000), st.floats(allow_nan=False))
SCALARS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.booleans()
    | st.none()
)
MESSAGES = st.builds(
    Everything,
    number=st.integers(-(2**63), 2**64 - 1),
    real=st.floats(allow_nan=False),
    name=st.text(max_size=20),
    data=st.binary(max_size=20),
    flag=st.booleans(),
    maybe=st.none() | POINTS,
    points=st.lists(POINTS, max_size=4).map(tuple),
    metrics=st.dictionaries(st.text(max_size=9), SCALARS, max_size=4),
    choice=st.none() | st.just(Empty()) | st.builds(Text, st.text(max_size=9)),
    tables=st.dictionaries(
        st.text(max_size=3), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=3
    ),
)
EXAMPLE = Everything(1, 2.0, SiteName("a"), b"", True, None, (), {}, None)
FIELDS = [1, 1, 2.0, "a", b"", True, None, [], {}, None, {}]


@given(MESSAGES)
def test_messages_survive_the_wire(message: Everything) -> None:
    """Round trip, from any kind of buffer."""
    data = SCHEMA.encode(message)
    for form in (data, bytearray(data), memoryview(data)):
        assert SCHEMA.decode(form, LIMITS) == message


def test_the_example_is_an_array_that_begins_with_its_tag() -> None:
    """The form on the wire is part of the contract."""
    assert msgpack.unpackb(SCHEMA.encode(EXAMPLE)) == FIELDS
    assert SCHEMA.decode(msgpack.packb([3, "x"]), LIMITS) == Text("x")
    assert SCHEMA.encode(Empty()) == b"\x91\x02"


def test_subclasses_become_the_type_itself_and_integers_become_floats() -> None:
    """On the way out; on the way in types are exact."""
    message = Everything(
        Level.HIGH, 7, Color.RED, b"", True, None, (Point(1, 2),), {"a": Color.RED}, None
    )
    decoded = SCHEMA.decode(SCHEMA.encode(message), LIMITS)
    assert isinstance(decoded, Everything)
    assert [type(decoded.number), type(decoded.real), type(decoded.name)] == [int, float, str]
    assert decoded.metrics == {"a": "red"}
    assert type(decoded.points[0].y) is float


def test_a_union_with_a_float_takes_integers_on_the_way_out() -> None:
    """Unless an int is a member itself."""

    @dataclass(frozen=True)
    class Row:
        values: Mapping[str, float | None]

    schema = Schema((1, Row))
    decoded = schema.decode(schema.encode(Row({"a": 1, "b": None})), LIMITS)
    assert decoded == Row({"a": 1.0, "b": None})


@pytest.mark.parametrize(
    ("at", "value", "where"),
    [
        (1, True, "Everything.number: True is bool, not int"),
        (1, 1.0, "Everything.number: 1.0 is float"),
        (2, 1, "Everything.real: 1 is int, not float"),
        (3, b"a", "Everything.name: b'a' is bytes"),
        (3, None, "Everything.name: None is NoneType"),
        (4, "a", "Everything.data: 'a' is str"),
        (5, 1, "Everything.flag: 1 is int"),
        (6, [1], "Everything.maybe: 1 fields, 2 expected"),
        (6, [1, "y"], r"Everything.maybe\.y: 'y' is str"),
        (6, [1001, 0.0], "Everything.maybe: refused: 'x=1001 is too far'"),
        (6, "x", "Everything.maybe: 'x' is str, not Point or None"),
        (7, {}, "Everything.points: {} is dict, not tuple of Point"),
        (7, [[1, 1.0], [2, None]], r"Everything.points\[1\]\.y: None"),
        (7, [3], r"Everything.points\[0\]: 3 is int, not Point"),
        (8, [], "Everything.metrics: \\[\\] is list, not mapping"),
        (8, {"k\n": b""}, r"Everything.metrics\['k\\n'\]: b'' is bytes, not int or float"),
        (9, [], "Everything.choice: \\[\\] is list, not Empty or Text"),
        (9, [1, 2], "Everything.choice"),
        (9, ["2"], "Everything.choice"),
        (9, [3], "Everything.choice: 0 fields, 1 expected"),
        (10, {"a": [1, "x" * 99]}, r"Everything.tables\['a'\]\[1\]: 'x{59}\.\.\. is str"),
    ],
)
def test_a_field_of_another_type_is_refused_with_its_path(
    at: int, value: object, where: str
) -> None:
    """Exact types all the way down."""
    data = msgpack.packb([*FIELDS[:at], value, *FIELDS[at + 1 :]])
    with pytest.raises(RemoteProtocolError, match=where) as caught:
        SCHEMA.decode(data, LIMITS)
    assert caught.value.reason == "bad_message"


@pytest.mark.parametrize(
    "message",
    [
        Everything("1", 2.0, "a", b"", True, None, (), {}, None),
        Everything(True, 2.0, "a", b"", True, None, (), {}, None),
        Everything(2**64, 2.0, "a", b"", True, None, (), {}, None),
        Everything(1, 10**400, "a", b"", True, None, (), {}, None),
        Everything(1, 2.0, "\ud800", b"", True, None, (), {}, None),
        Everything(1, 2.0, "a", b"", 1, None, (), {}, None),
        Everything(1, 2.0, "a", b"", True, Text("x"), (), {}, None),
        Everything(1, 2.0, "a", b"", True, None, Point(1, 1), {}, None),
        Everything(1, 2.0, "a", b"", True, None, (Text("x"),), {}, None),
        Everything(1, 2.0, "a", b"", True, None, (), [], None),
        Everything(1, 2.0, "a", b"", True, None, (), {1: 2}, None),
        Everything(1, 2.0, "a", b"", True, None, (), {"a": b""}, None),
        Everything(1, 2.0, "a", b"", True, None, (), {}, Point(1, 1.0)),
        Everything(1, 2.0, "a", b"", True, None, (), {}, None, {"a": 5}),
        Point(1, 1.0),
        "text",
    ],
)
def test_a_message_with_a_wrong_field_is_not_encoded(message: object) -> None:
    """Our own mistakes are found on our side."""
    with pytest.raises(LocalProtocolError):
        SCHEMA.encode(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x01",
        b"\x80",
        b"\x91\x63",
        b"\x91\xc3",
        b"\x91\xcb" + bytes(8),
        b"\x92\x02\x00",
        b"\x91\x02\x00",
        b"\xd4\x05x",
        msgpack.packb(["os.system", "ls"]),
        msgpack.packb([1, *([0] * 9)]),
        b"\x91" * 4000,
        b"\xdc\xff\xff" + b"\x80" * 60_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x03\xdb\xff\xff\xff\xff",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """No tag, an unknown one, a wrong number of fields, bombs."""
    with pytest.raises(RemoteProtocolError, match="bad_message"):
        SCHEMA.decode(data, LIMITS)


@given(st.binary(max_size=200))
def test_garbage_raises_only_remote_protocol_errors(data: bytes) -> None:
    """With and without a valid beginning."""
    for form in (data, b"\x9b\x01" + data):
        with suppress(RemoteProtocolError):
            SCHEMA.decode(form, LIMITS)


@given(MESSAGES, st.binary(min_size=1, max_size=4), st.integers(0))
def test_mutations_raise_only_remote_protocol_errors(
    message: Everything, noise: bytes, where: int
) -> None:
    """Whatever a changed message decodes to, it is of the schema."""
    data = bytearray(SCHEMA.encode(message))
    where %= len(data)
    data[where : where + len(noise)] = noise
    with suppress(RemoteProtocolError):
        assert type(SCHEMA.decode(data, LIMITS)) in {Everything, Empty, Text}


def test_a_message_longer_than_allowed_is_refused_unread() -> None:
    """``control_bytes`` is checked first."""
    with pytest.raises(RemoteProtocolError, match="message_too_long: 65537 bytes, at most 65536"):
        SCHEMA.decode(bytes(64 * KIB + 1), LIMITS)


def test_items_and_depth_are_bounded_by_the_limits() -> None:
    """Even where the schema would admit more."""
    many = Everything(1, 2.0, "a", b"", True, None, (Point(1, 1.0),) * 2000, {}, None)
    with pytest.raises(RemoteProtocolError, match="more than 4096 items"):
        SCHEMA.decode(SCHEMA.encode(many), LIMITS)
    flat = Limits(depth=2)
    assert SCHEMA.decode(SCHEMA.encode(EXAMPLE), flat) == EXAMPLE
    nested = Everything(1, 2.0, "a", b"", True, None, (Point(1, 1.0),), {}, None)
    with pytest.raises(RemoteProtocolError, match="2 levels"):
        SCHEMA.decode(SCHEMA.encode(nested), flat)


def test_repeated_map_keys_are_refused() -> None:
    """Two readers might choose differently."""
    data = msgpack.packb(FIELDS)[:-3] + b"\x82\xa1a\x01\xa1a\x02" + b"\xc0\x80"
    with pytest.raises(RemoteProtocolError, match="repeats one of its 2 keys"):
        SCHEMA.decode(data, LIMITS)


@dataclass(frozen=True)
class Recursive:
    """A message that contains itself."""

    inner: Recursive | None


@dataclass(frozen=True)
class Unresolved:
    """An annotation that names nothing."""

    value: Missing  # noqa: F821


@dataclass(frozen=True)
class Keyword:
    """A field that is not positional."""

    _: KW_ONLY
    value: int


@dataclass(frozen=True)
class Pair:
    """A tuple of fixed length."""

    value: tuple[int, str]


@dataclass(frozen=True)
class NumberKeys:
    """A mapping with other keys than text."""

    value: Mapping[int, str]


@dataclass(frozen=True)
class Ambiguous:
    """Two members that are arrays on the wire."""

    value: Point | tuple[int, ...]


@dataclass(frozen=True)
class Untagged:
    """Two dataclasses without tags."""

    value: Point | Text


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (((1, Recursive),), "Recursive contains itself"),
        (((1, Unresolved),), "Unresolved: name 'Missing'"),
        (((1, Keyword),), "Keyword.value is not positional"),
        (((1, Pair),), "Pair.value: .* is not supported"),
        (((1, NumberKeys),), "NumberKeys.value: .* is not supported"),
        (((1, Ambiguous),), "Ambiguous.value: members of a union look alike"),
        (((1, Untagged),), "Untagged.value: Point, Text must have a tag"),
        (((1, Text), (1, Empty)), "repeats a tag"),
        (((1, Text), (2, Text)), "repeats a tag or a class"),
        (((1, int),), "int with tag 1"),
        (((-1, Text),), "Text with tag -1"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_when_it_is_made(
    entries: tuple[tuple[int, type], ...], text: str
) -> None:
    """Not when the first message comes."""
    with pytest.raises(LocalProtocolError, match=text):
        Schema(*entries)


def test_an_empty_schema_knows_no_message() -> None:
    """It is of little use, but no error."""
    with pytest.raises(RemoteProtocolError, match="unknown tag 1"):
        Schema().decode(b"\x91\x01", LIMITS)
