"""Buffers of a splice: room in the order of the stream, free when acknowledged."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.limits import KIB, MIB
from flare_async.net.basin import LONG_FRAME, Basin
from flare_async.net.buffers import BUFFER_BYTES, Buffers


def test_a_buffer_is_used_again_only_after_its_bytes_were_acknowledged():
    """One byte less than all of them keeps it."""
    buffers = Buffers(4)
    basin = Basin(buffers)
    first = basin.room(0, MIB)
    basin.acknowledged(BUFFER_BYTES - 1)
    second = basin.room(BUFFER_BYTES, MIB)
    basin.acknowledged(BUFFER_BYTES)
    assert second.obj is not first.obj
    assert basin.room(2 * BUFFER_BYTES, MIB).obj is first.obj


def test_short_frames_get_no_buffer():
    """They come in the link's own pieces."""
    assert Basin(Buffers(4)).room(0, LONG_FRAME - 1) is None


def test_what_did_not_land_is_offered_again():
    """A frame that was torn by a lost link comes again from its beginning."""
    basin = Basin(Buffers(4))
    torn = basin.room(0, BUFFER_BYTES)
    again = basin.room(0, BUFFER_BYTES)
    assert again.obj is torn.obj
    assert len(again) == BUFFER_BYTES


def test_only_so_many_buffers_are_kept():
    """What nobody uses is no memory of ours."""
    buffers = Buffers(1)
    views = [buffers.take() for _ in range(3)]
    for view in views:
        buffers.give(view)
    assert [buffers.take().obj is view.obj for view in (views[0], views[1])] == [True, False]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700 * KIB), min_size=1, max_size=6), st.integers(0, 2**32))
def test_frames_of_any_length_come_out_as_they_went_in(frames, seed):
    """Room is asked for as a decoder does, reads are cut anywhere, readers acknowledge late."""
    dice = random.Random(seed)
    basin, offset, found, wanted = Basin(Buffers(2)), 0, b"", b""
    for length in frames:
        data, at, run = dice.randbytes(length), 0, 0
        while at < length:
            room = basin.room(offset + at, length - at)
            size = min(length - at, dice.randint(1, 300 * KIB), len(room) if room else length)
            if room is None:
                found += b"".join(bytes(part) for part in basin.parts(offset + run, at - run))
                found, run = found + data[at : at + size], at + size
            else:
                room[:size] = data[at : at + size]
            at += size
        found += b"".join(bytes(part) for part in basin.parts(offset + run, at - run))
        offset, wanted = offset + length, wanted + data
        basin.acknowledged(dice.randint(0, offset))
    assert found == wanted
