"""One connection through a proxy: two sockets and a lane in each direction."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import cast

from flare_async.testing.proxy_lane import Lane, LaneEnd, LaneRules, Meter

__all__ = ["ProxiedConnection", "Side"]

LINGER_NOT = struct.pack("ii", 1, 0)  # close() then resets
DRAIN_SECONDS = 0.001
DRAIN_TRIES = 2000


class Side(asyncio.Protocol):
    """The proxy's end of one socket: what is read goes into ``out``, ``into`` writes to it."""

    def __init__(self, connection: ProxiedConnection, out: Lane, into: Lane) -> None:
        self._connection = connection
        self._out = out
        self._into = into
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let both lanes begin."""
        made = cast("asyncio.Transport", transport)
        self.transport = self._out.source = self._into.sink = made
        self._into.pump()
        self._connection.opened(self)

    def data_received(self, data: bytes) -> None:
        """Forward."""
        self._out.arrived(data)

    def eof_received(self) -> bool:
        """Forward the end; the other direction may go on."""
        self._out.ended()
        return True

    def pause_writing(self) -> None:
        """Read no more from the other side."""
        self._into.set_full(True)

    def resume_writing(self) -> None:
        """Read again."""
        self._into.set_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side, too, as it was ended here."""
        self.transport = None
        self._connection.lost(exc)


class ProxiedConnection:
    """Lives until both sockets are closed; ``up`` and ``down`` count its bytes."""

    def __init__(
        self, up: LaneRules, down: LaneRules, on_ended: Callable[[ProxiedConnection], None]
    ) -> None:
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._finished = 0
        self._over = False
        self._up = Lane(up, LaneEnd(lambda: self._end_lane(self.server), self.reset, self.hang_up))
        self._down = Lane(
            down, LaneEnd(lambda: self._end_lane(self.client), self.reset, self.hang_up)
        )
        self.client = Side(self, self._up, self._down)
        self.server = Side(self, self._down, self._up)

    @property
    def up(self) -> Meter:
        """Bytes from the connecting side."""
        return self._up.meter

    @property
    def down(self) -> Meter:
        """Bytes to the connecting side."""
        return self._down.meter

    def pump(self) -> None:
        """Look again: toxics have changed."""
        self._up.pump()
        self._down.pump()

    def opened(self, side: Side) -> None:
        """Take note of a socket; one that comes too late is reset."""
        if self._over:
            self._reset_when_drained(side, DRAIN_TRIES)

    def reset(self) -> None:
        """Reset both sockets, after what was forwarded has left this machine's buffers."""
        self._close_lanes()
        for side in (self.client, self.server):
            self._reset_when_drained(side, DRAIN_TRIES)

    def hang_up(self) -> None:
        """Close both sockets in order, after what was forwarded."""
        self._close_lanes()
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.close()

    def abort(self) -> None:
        """Close both sockets now."""
        self._close_lanes()
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()

    def lost(self, exc: Exception | None) -> None:
        """Take note that a socket is gone; the other one follows it."""
        if not self._over:
            (self.hang_up if exc is None else self.reset)()
        if self.client.transport is None and self.server.transport is None:
            self._on_ended(self)

    def _end_lane(self, side: Side) -> None:
        self._finished += 1
        if self._over or side.transport is None:
            return
        if self._finished == 2:
            self.hang_up()
        else:
            side.transport.write_eof()

    def _close_lanes(self) -> None:
        self._over = True
        self._up.close()
        self._down.close()

    def _reset_when_drained(self, side: Side, tries: int) -> None:
        transport = side.transport
        if transport is None:
            return
        if tries and unsent(transport):
            self._loop.call_later(DRAIN_SECONDS, self._reset_when_drained, side, tries - 1)
            return
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT
        )
        transport.abort()


def unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes the other machine has not taken yet, as far as the system tells."""
    waiting = transport.get_write_buffer_size()
    if waiting or sys.platform != "linux":
        return waiting
    number = transport.get_extra_info("socket").fileno()
    answer = fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)
