"""One direction of one proxied connection: bytes in, toxics, bytes out; bounded in memory."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flare_async.limits import KIB
from flare_async.testing.scanner import FrameScanner
from flare_async.testing.toxics import Toxics

__all__ = ["LANE_BYTES", "Lane", "LaneRules", "Meter"]

LANE_BYTES = 512 * KIB  # what waits in one direction of a connection before it is read no further
QUANTUM_SECONDS = 0.01


@dataclass(slots=True)
class Meter:
    """Bytes of one direction: of one connection, or of all of them."""

    received: int = 0  # what the sender has sent and the proxy has read
    forwarded: int = 0  # what was handed to the other side's socket
    payload: int = 0  # bytes of channels among those received; none is found in TLS


class LaneRules(Protocol):
    """What all lanes of one direction have in common."""

    toxics: Toxics
    total: Meter
    dice: random.Random

    def room(self) -> int | None:
        """Return how many bytes may be forwarded until the next reset; None is no bound."""

    def strike(self) -> None:
        """Take note that a reset has been carried out."""


@dataclass(frozen=True, slots=True)
class LaneEnd:
    """What ends a lane: the orderly end of its stream, or a reset of the connection."""

    finish: Callable[[], None]
    reset: Callable[[], None]
    hang_up: Callable[[], None]


class Lane:
    """Reads from one transport and writes to the other."""

    def __init__(self, rules: LaneRules, ends: LaneEnd) -> None:
        self.meter = Meter()
        self._rules = rules
        self._ends = ends
        self._loop = asyncio.get_running_loop()
        self._scanner = FrameScanner()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._free_at = 0.0  # when the bandwidth allows the next piece
        self._finished = False
        self._full = False  # the socket that is written to
        self._closed = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def arrived(self, data: bytes) -> None:
        """Take bytes from the source."""
        rules, meter = self._rules, self.meter
        before = self._scanner.payload
        self._scanner.feed(data)
        payload = self._scanner.payload - before
        for tally in (meter, rules.total):
            tally.received += len(data)
            tally.payload += payload
        if self._closed:
            return
        if not self._queue and self.sink is not None and rules.toxics.harmless:
            self._forward(data)
            return
        toxics = rules.toxics
        wait = toxics.latency + rules.dice.uniform(0.0, toxics.jitter)
        self._queue.append((self._loop.time() + wait, data))
        self._waiting += len(data)
        self.pump()

    def ended(self) -> None:
        """Take the end of the source's stream."""
        self._finished = True
        self.pump()

    def set_full(self, full: bool) -> None:
        """Take note whether the sink takes more."""
        self._full = full
        self.pump()

    def close(self) -> None:
        """Forget what waits."""
        self._closed = True
        self._queue.clear()
        self._waiting = 0
        self._disarm()

    def pump(self) -> None:
        """Forward what is due; called when anything has changed."""
        if self._closed:
            return
        self._disarm()
        while self._may_forward():
            when = max(self._queue[0][0], self._free_at)
            if when > self._loop.time():
                self._timer = self._loop.call_at(when, self.pump)
                break
            self._forward(self._next_piece())
        self._throttle()
        if self._finished and not self._queue and not self._rules.toxics.stopped:
            self._finish()

    def _may_forward(self) -> bool:
        open_ = self.sink is not None and not self._full and not self._closed
        return open_ and bool(self._queue) and not self._rules.toxics.stopped

    def _next_piece(self) -> bytes:
        when, data = self._queue.popleft()
        toxics, most = self._rules.toxics, len(data)
        if toxics.slice_bytes is not None:
            most = min(most, toxics.slice_bytes)
        if toxics.bandwidth is not None:
            most = min(most, max(1, int(toxics.bandwidth * QUANTUM_SECONDS)))
            self._free_at = max(self._free_at, self._loop.time() - QUANTUM_SECONDS)
            self._free_at += most / toxics.bandwidth
        if most < len(data):
            self._queue.appendleft((when, data[most:]))
        self._waiting -= most
        return data[:most]

    def _forward(self, data: bytes) -> None:
        """Write bytes to the sink, as far as no limit and no reset comes before their end."""
        room, limit = self._rules.room(), self._rules.toxics.limit_data
        left = len(data) if limit is None else max(0, limit - self.meter.forwarded)
        kept = data[: min(left, len(data) if room is None else room)]
        self.meter.forwarded += len(kept)
        self._rules.total.forwarded += len(kept)
        if self.sink is not None and kept:
            self.sink.write(kept)
        if room is not None and room <= min(left, len(data)):
            self._rules.strike()
            self.close()
            self._ends.reset()
        elif len(kept) < len(data):
            self.close()
            self._ends.hang_up()

    def _finish(self) -> None:
        self._closed = True
        self._loop.call_later(self._rules.toxics.slow_close, self._ends.finish)

    def _throttle(self) -> None:
        source = self.source
        if source is None or source.is_closing():
            return
        full = self._waiting > LANE_BYTES or self._full
        if full and source.is_reading():
            source.pause_reading()
        elif not full and not source.is_reading() and not self._finished:
            source.resume_reading()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
