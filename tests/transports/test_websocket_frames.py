"""RFC 6455 heads and masks: round trips at any split, and nothing but typed errors on garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError
from flare_async.net.attachment import BROKEN
from flare_async.transports.websocket_frames import (
    FrameHead,
    FrameScanner,
    Opcode,
    apply_mask,
    mask_slowly,
    pack_frame_head,
)

KEYS = st.binary(min_size=4, max_size=4)
LENGTHS = st.one_of(st.integers(0, 70_000), st.integers(0, 2**63 - 1))


@given(length=LENGTHS, key=st.one_of(st.just(b""), KEYS), rest=st.binary(max_size=9))
def test_a_head_is_read_as_it_was_packed(length, key, rest):
    """Whatever follows; and every shorter part of it is told to be one."""
    packed = pack_frame_head(Opcode.BINARY, length, key)
    head = FrameScanner(masked=bool(key)).scan(packed + rest)
    assert head == FrameHead(Opcode.BINARY, length, key, len(packed))
    parts = [packed[:end] for end in range(len(packed))]
    assert {FrameScanner(masked=bool(key)).scan(part) for part in parts} == {None}


@given(data=st.binary(max_size=20), masked=st.booleans())
def test_garbage_is_a_head_a_part_of_one_or_a_typed_error(data, masked):
    """Nothing else may come of what a stranger sends."""
    try:
        head = FrameScanner(masked=masked).scan(data)
    except RemoteProtocolError:
        return
    assert head is None or (head.size <= len(data) and head.length < 2**63)


@given(key=KEYS, data=st.binary(max_size=300))
def test_both_ways_to_mask_agree_and_undo_themselves(key, data):
    """The compiled routine and the arithmetic that stands in for it."""
    fast, slow = bytearray(data), bytearray(data)
    apply_mask(key, fast)
    mask_slowly(key, slow)
    assert fast == slow
    mask_slowly(key, slow)
    assert slow == data


@pytest.mark.parametrize(
    "sequence",
    [
        [b"\x80\x00"],  # a continuation of nothing
        [b"\x02\x00", b"\x82\x00"],  # a message inside a message
        [b"\x81\x00"],  # text
        [b"\x09\x00"],  # a ping in parts
        [b"\x89\x7e\x00\x7e"],  # a ping of 126 bytes
        [b"\xc2\x00"],  # compression, which nobody has offered
        [b"\x83\x00"],  # an opcode that does not exist
        [b"\x82\x80abcd"],  # a mask where none belongs
        [b"\x82\x7f" + b"\xff" * 8],  # 2**64 - 1 bytes
    ],
)
def test_what_breaks_the_rules_is_refused(sequence):
    """The last head of each sequence is the one too many."""
    scanner = FrameScanner(masked=False)
    for data in sequence[:-1]:
        assert scanner.scan(data) is not None
    with pytest.raises(RemoteProtocolError) as caught:
        scanner.scan(sequence[-1])
    assert caught.value.reason == ("bad_websocket" if len(sequence) == 1 else "bad_head")


@given(bit=st.integers(0, 8 * 6 - 1), length=st.integers(0, 125), masked=st.booleans())
def test_a_flipped_bit_behind_a_good_head_is_damage(bit, length, masked):
    """Where it breaks a rule, a session may resume on another link."""
    scanner = FrameScanner(masked=masked)
    head = pack_frame_head(Opcode.BINARY, length, b"key!" if masked else b"")
    assert scanner.scan(head) is not None
    damaged = bytearray(head + bytes(14))
    damaged[bit // 8] ^= 1 << bit % 8
    assert broken_by(scanner, bytes(damaged)) in {None, *BROKEN}


def broken_by(scanner, data):
    """Return the reason for which a head is refused, if it is."""
    try:
        scanner.scan(data)
    except RemoteProtocolError as error:
        return error.reason
    return None


def test_a_message_may_come_in_parts_with_a_ping_between_them():
    """The scanner knows whether a message waits for more."""
    scanner = FrameScanner(masked=False)
    inside = []
    for data in (b"\x02\x01", b"\x89\x00", b"\x00\x01", b"\x80\x01", b"\x82\x00"):
        scanner.scan(data)
        inside.append(scanner.inside)
    assert inside == [True, True, True, False, False]
