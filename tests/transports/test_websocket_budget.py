"""Frames of a WebSocket that cost their sender nothing: so many, and no more."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.testing.link_checks import HELLO
from flare_async.transports.websocket_budget import FrameBudget
from flare_async.transports.websocket_frames import FrameHead, Opcode
from tests.transports.test_websocket_link import End, encoded, message

CHEAP = {  # what, how many at once, how many a second
    "pings": (FrameHead(Opcode.PING, 4, b"", 2), 200, 20),
    "pongs": (FrameHead(Opcode.PONG, 0, b"", 2), 200, 20),
    "empty messages": (FrameHead(Opcode.BINARY, 0, b"", 2), 4_000, 1_000),
    "splinters": (FrameHead(Opcode.CONTINUATION, 23, b"", 2), 4_000, 1_000),
    "small parts": (FrameHead(Opcode.CONTINUATION, 24, b"", 2), 200_000, 20_000),
    "less small parts": (FrameHead(Opcode.BINARY, 511, b"", 2), 200_000, 20_000),
}


def taken(budget, head, most):
    """Return how many frames pass before the budget is spent."""
    for count in range(most):
        try:
            budget.spend(head)
        except RemoteProtocolError:
            return count
    return most


@pytest.mark.parametrize("name", CHEAP)
def test_so_many_at_once_and_so_many_a_second(name):
    """Two seconds later there are two seconds' worth; after a long time no more than at first."""
    head, burst, rate = CHEAP[name]
    times = [100.0]
    budget = FrameBudget(lambda: times[0])
    counts = []
    for seconds in (0, 2, 1_000_000):
        times[0] += seconds
        counts.append(taken(budget, head, 2 * burst))
    assert counts == [burst, 2 * rate, burst]


def test_a_frame_of_some_length_costs_nothing():
    """However many there are."""
    budget = FrameBudget(lambda: 0.0)
    head = FrameHead(Opcode.BINARY, 512, b"", 4)
    assert taken(budget, head, 300_000) == 300_000


FLOODS = {
    "pings": (Opcode.PING, b"", 200),
    "pongs": (Opcode.PONG, b"", 200),
    "empty messages": (Opcode.BINARY, b"", 4_000),
}


@pytest.mark.parametrize("dialled", [False, True])
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_link(name, dialled):
    """The session is told why, and the socket is closed."""
    opcode, body, burst = FLOODS[name]

    async def main():
        end = End(dialled=dialled)
        end.read(message(encoded(HELLO), masked=not dialled))
        end.read(message(body, masked=not dialled, opcode=opcode) * (burst // 2))
        before = list(end.recorder.lost_with)
        end.read(message(body, masked=not dialled, opcode=opcode) * (10 * burst))
        return before, end

    before, end = asyncio.run(main())
    (error,) = end.recorder.lost_with
    assert (before, error.reason, end.wire.closed) == ([], "flood", True)
    assert end.recorder.frames == [HELLO]
