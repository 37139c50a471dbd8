"""The look over raw msgpack."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.packing import pack, unpack
from flare_async.wire.scan import scan

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(min_size=250, max_size=260)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=17) | st.dictionaries(st.text(), inner, max_size=17),
    max_leaves=20,
)


def count(value: object) -> int:
    """Return the items of a value."""
    if isinstance(value, dict):
        return 1 + sum(1 + count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(count(item) for item in value)
    return 1


def depth(value: object) -> int:
    """Return the levels of containers."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@settings(max_examples=50)
@given(VALUES)
def test_the_budgets_are_exact(value: object) -> None:
    """Items and depth as they are pass, one less does not."""
    data = msgpack.packb(value)
    items, levels = count(value), depth(value)
    scan(data, items, levels)
    assert unpack(data) == value
    for wrong in ((items - 1, levels), (items, levels - 1)):
        if items > 1:
            with pytest.raises(RemoteProtocolError, match="more than"):
                scan(data, *wrong)


@settings(max_examples=50)
@given(VALUES, st.integers(0))
def test_a_cut_or_lengthened_value_is_refused(value: object, cut: int) -> None:
    """Truncated anywhere, or followed by anything."""
    data = msgpack.packb(value)
    for wrong in (data + b"\x00", data[: cut % len(data)]):
        with pytest.raises(RemoteProtocolError, match=r"truncated|bytes after"):
            scan(wrong, 10_000, 100)


@given(st.binary(max_size=200))
def test_what_the_scanner_passes_is_unpacked_or_refused_with_a_typed_error(data: bytes) -> None:
    """Garbage raises nothing else."""
    with suppress(RemoteProtocolError):
        scan(data, 100, 8)
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc1",
        b"\x91" * 33 + b"\x00",
        b"\x91" * 100_000,
        b"\xdc\xff\xff" + b"\x80" * 65_535,
        b"",
    ],
)
def test_bombs_are_refused(data: bytes) -> None:
    """Four billion items, 65,535 empty maps, nesting of 33, ext types, a reserved byte."""
    with pytest.raises(RemoteProtocolError):
        scan(data, 4096, 32)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x81\x01\x02", "not msgpack: ValueError|map key is int"),
        (b"\x81\xc4\x01a\x02", "a map key is bytes"),
        (b"\x82\xa1a\x01\xa1a\x02", "repeats one of its 2 keys"),
        (b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", "not msgpack|map key is float"),
        (b"\xd4\x05x", "not msgpack|ext type"),
        (b"\xd6\xff\x00\x00\x00\x00", "not msgpack|ext"),
        (b"\xc7\x00\x05", "ext type 5 is not allowed"),
        (b"\xa1\xff", "UnicodeDecodeError"),
        (b"\x01\x02", "ExtraData"),
    ],
)
def test_unpacking_is_strict(data: bytes, text: str) -> None:
    """Text keys, each once; no ext types; valid UTF-8; nothing behind the value."""
    with pytest.raises(RemoteProtocolError, match=text):
        unpack(data)


@pytest.mark.parametrize("value", ["\ud800", 2**64, {1, 2}, object()])
def test_what_cannot_be_packed_is_our_mistake(value: object) -> None:
    """Lone surrogates, huge integers, other types."""
    with pytest.raises(LocalProtocolError):
        pack(value)
