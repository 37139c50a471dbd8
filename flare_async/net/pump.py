"""Moves frames from a session's machine to its link, and notices a link that takes nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from flare_async.errors import FlareError, SendStalled
from flare_async.limits import Limits
from flare_async.net.callbacks import start_soon
from flare_async.net.link import Link
from flare_async.net.watchdog import Progress, Watch, Watchdog
from flare_async.ports import Clock
from flare_async.wire.frames import Data, Frame
from flare_async.wire.session import SessionMachine

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Pump"]


class Pump:
    """Sends at once while the link is writable; otherwise one task, started late, waits for it.

    A link that stays writable gets one bulk frame in each turn of the loop. It would otherwise keep
    the loop to itself, and what arrives meanwhile would be answered behind all that the system's
    buffers take.

    ``on_stall`` is called once when the link has accepted no byte for ``send_timeout`` seconds
    while frames waited: such a link may hold half a frame and must never be used again.

    ``on_failure`` is called with what the link or the machine raises, a bug of ours, before it goes
    on to the caller or the loop: frames that were taken from the queue may never have left.
    """

    __slots__ = (
        "_clock",
        "_ended",
        "_flushing",
        "_limits",
        "_link",
        "_loop",
        "_machine",
        "_on_failure",
        "_on_left",
        "_on_stall",
        "_parked",
        "_pending",
        "_progress",
        "_running",
        "_sent",
        "_tasks",
        "_turn",
        "_turned",
        "_watch",
        "_watchdog",
        "sent",
    )

    def __init__(
        self,
        link: Link,
        machine: SessionMachine,
        limits: Limits,
        *,
        on_left: Callable[[], None],
        on_stall: Callable[[FlareError], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._link = link
        self._machine = machine
        self._limits = limits
        self._on_left = on_left
        self._on_stall = on_stall
        self._on_failure = on_failure
        # The bytes of one bulk frame in each turn of the loop, in one frame or in shorter ones.
        self._turn = sys.maxsize if link.by_reference else min(link.frame_bytes, limits.frame_bytes)
        self._sent = 0
        self._turned = False  # the next turn of the loop will go on
        self._flushing = False
        self._running = False
        self._ended = False
        self._pending = 0
        self._parked: asyncio.Future[None] | None = None
        self._watch: Watch | None = None

    def bind(self, clock: Clock, watchdog: Watchdog, tasks: TaskGroup) -> None:
        """Say whose clock, watchdog and task group to use."""
        self._clock = clock
        self._watchdog = watchdog
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._progress = Progress(clock.now())
        self.sent = clock.now()  # when the link took bytes of a channel last

    def flush(self) -> None:
        """Send what may be sent now; never blocks."""
        link, machine = self._link, self._machine
        if self._flushing or self._ended or not machine.has_frames:
            return
        self._flushing = True
        try:
            while link.writable and self._sent < self._turn:
                frames = machine.frames_to_send(self._turn)
                if not frames:
                    return
                if type(frames[-1]) is Data:  # control frames come first
                    self.sent = self._clock.now()
                    if self._turn < sys.maxsize:
                        self._sent += _payload_bytes(frames)
                link.send_soon(frames)
                self._on_left()
                if self._turn == sys.maxsize or not machine.has_frames:  # nothing is left
                    return
            self._go_on_later()
        except Exception as exc:
            self._on_failure(exc)
            raise
        finally:
            self._flushing = False

    def finish(self) -> None:
        """Send what a Goodbye has left of the queue, however full the link is, and stop."""
        if not self._ended:
            try:
                frames = self._machine.frames_to_send(sys.maxsize)  # control frames: few and short
                if frames:
                    self._link.send_soon(frames)
            except Exception as exc:
                self._on_failure(exc)
                raise
            self.stop()

    def stop(self) -> None:
        """Send nothing more; ends the task."""
        self._ended = True
        self._disarm()
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _go_on_later(self) -> None:
        if self._link.writable:
            if not self._turned:
                self._turned = True
                self._loop.call_soon(self._next_turn)
        elif not self._running:
            self._running = True
            start_soon(self._tasks, self._run, name=f"pump to {self._link.address}")
        elif self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _next_turn(self) -> None:
        self._turned = False
        self._sent = 0
        self.flush()

    async def _run(self) -> None:
        while not self._ended:
            self._arm()
            try:
                await self._link.wait_writable()
            finally:
                self._disarm()
            try:
                self.flush()
            except Exception as exc:  # noqa: BLE001 - the group's other sessions must not end of it
                message = f"pump to {self._link.address}"
                self._loop.call_exception_handler({"message": message, "exception": exc})
            if self._idle:
                await self._park()

    @property
    def _idle(self) -> bool:
        return not self._ended and (self._link.writable or not self._machine.has_frames)

    async def _park(self) -> None:
        self._parked = asyncio.get_running_loop().create_future()
        try:
            await self._parked
        finally:
            self._parked = None

    def _arm(self) -> None:
        self._pending = self._link.pending
        self._progress.feed(self._clock.now())
        self._watch = self._watchdog.watch(
            self._progress, self._limits.send_timeout, self._check_progress
        )

    def _disarm(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _check_progress(self, idle: float) -> None:
        if self._link.pending < self._pending:
            self._arm()  # slow, but it moves
        else:
            self._on_stall(SendStalled(self._link.address, idle, self._link.pending))


def _payload_bytes(frames: list[Frame]) -> int:
    size = 0
    for one in frames:
        if type(one) is Data:
            size += len(one.payload)
    return size
