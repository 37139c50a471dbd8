"""The asking process of ``bench.latency``: ``python -m bench.pinger SETTING``.

Each command is a case, run on the one session: ``idle``, ``bulk`` or ``stalled``. It answers with
the round trips of its pings in seconds, with the bytes of bulk a second that passed meanwhile, and
with the bytes that the stalled readers' channels held at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import numpy as np

from bench.cpu import ANY_CORE, pin
from bench.patience import PATIENT
from bench.pings import Schedule, percentile, round_trips
from bench.pipe import commands, say
from bench.responder import BULK_TOPIC, COUNT, ECHO_TOPIC, ENDLESS_TOPIC, SINK_TOPIC
from bench.wires import transports
from flare_async.jobs.loops import new_loop
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import open_context
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions, Side

__all__ = ["Setting"]

STALL_AFTER_WINDOWS = 3  # what a reader takes before it stops, so that its credit has grown


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to ask, how often, and how much bulk goes beside; ``uploads`` go the other way.

    ``stalled`` is how many readers stall in the case of that name.
    """

    address: str
    certificates: str
    pings: int
    rate: float
    nbytes: int
    downloads: int
    uploads: int
    stalled: int
    core: int = ANY_CORE


class Pinger:
    """The three cases on one session."""

    def __init__(self, setting: Setting, session: Session) -> None:
        self._setting = setting
        self._session = session
        self._echo = session.open(ECHO_TOPIC, b"", OpenOptions(urgent=True))
        self._stalled: list[Channel] = []
        self._moved = 0
        self._full_at = 0
        self._filled = anyio.Event()

    async def obey(self) -> None:
        """Run the cases that the parent names, until it names no more."""
        async for case in commands():
            async with AsyncExitStack() as stack:
                for _ in range(self._setting.stalled if case == "stalled" else 0):
                    await stack.enter_async_context(self._stalled_reader())
                if case != "idle":
                    await stack.enter_async_context(self._bulk())
                say(await self._measured())
        self._echo.end()

    async def _measured(self) -> dict[str, float]:
        setting = self._setting
        moved, began = self._moved, time.perf_counter()
        trips = sorted(await round_trips(self._echo, Schedule(setting.pings, setting.rate)))
        seconds = time.perf_counter() - began
        return {
            "p50": percentile(trips, 0.5),
            "p99": percentile(trips, 0.99),
            "max": trips[-1],
            "pings": len(trips),
            "bulk": (self._moved - moved) / seconds,
            "held": self._held(),
        }

    def _held(self) -> int:
        each = [channel.statistics() for channel in self._stalled]
        return sum(numbers.received - numbers.consumed for numbers in each)

    @asynccontextmanager
    async def _bulk(self) -> AsyncIterator[None]:
        setting = self._setting
        buffer = np.ones(setting.nbytes, np.uint8).data
        async with anyio.create_task_group() as group:
            for _ in range(setting.downloads):
                group.start_soon(self._download, buffer)
            for _ in range(setting.uploads):
                group.start_soon(self._upload, buffer)
            if setting.downloads + setting.uploads:
                self._filled = anyio.Event()
                self._full_at = self._moved + 2 * setting.nbytes
                await self._filled.wait()  # bulk fills the link before anything is measured
            yield
            group.cancel_scope.cancel()

    async def _download(self, buffer: memoryview) -> None:
        while True:
            header = COUNT.pack(len(buffer))
            channel = self._session.open(BULK_TOPIC, header, OpenOptions(end=True, leased=True))
            try:
                channel.lease(buffer, self._note)
                await channel.landed()
            finally:
                channel.reset(ResetCode.CANCELLED, "enough")

    def _note(self, _: int, length: int) -> None:
        self._moved += length
        if self._moved >= self._full_at:
            self._filled.set()

    async def _upload(self, buffer: memoryview) -> None:
        step = PATIENT.frame_bytes
        while True:
            channel = self._session.open(SINK_TOPIC)
            try:
                for at in range(0, len(buffer), step):
                    await channel.send(buffer[at : at + step])
                    self._note(at, len(buffer[at : at + step]))
                channel.end()
            except BaseException:
                channel.reset(ResetCode.CANCELLED, "enough")
                raise

    @asynccontextmanager
    async def _stalled_reader(self) -> AsyncIterator[None]:
        channel = self._session.open(ENDLESS_TOPIC, b"", OpenOptions(end=True))
        taken = 0
        while taken < STALL_AFTER_WINDOWS * PATIENT.window_bytes:
            taken += len(await channel.receive())
        self._stalled.append(channel)
        try:
            yield
        finally:
            self._stalled.remove(channel)
            channel.reset(ResetCode.CANCELLED, "enough")


async def main() -> None:
    """Ask as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    network = transports(PATIENT, setting.certificates)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        link = await network.connect(setting.address)
        endpoint = context.endpoint("pinger", "client")
        async with Session(link, Side.CONNECTOR, endpoint) as session:
            say({"ready": 1})
            await Pinger(setting, session).obey()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
