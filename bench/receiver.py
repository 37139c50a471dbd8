"""The receiving process of ``bench.throughput``: ``python -m bench.receiver SETTING``.

Its commands are the ways to transfer: ``raw`` and ``channel`` into one touched buffer, ``upload``
from that buffer, ``verified`` into fresh tensors; with ``beside`` before it, on the second session.
Each answers with wall and processor seconds and, when it counts, with what happened on the link;
``digest`` answers with that of the buffer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from bench.ceilings import RawReceiver
from bench.cpu import ANY_CORE, cpu_seconds, pin
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.refs import ref_from
from bench.sender import BULK_TOPIC, UPLOAD_TOPIC
from bench.watched import WatchedLink
from bench.wires import credentials, transports
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.link import Link
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.sink import MemorySink
from flare_async.transports.tcp import split_address
from flare_async.wire.session import OpenOptions, Side

__all__ = ["BESIDE", "Setting"]

BESIDE = "beside "
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the sender is and what it has; ``counting`` watches the link, which costs time."""

    ours: str
    beside: str
    raw: str
    certificates: str
    ref: str
    nbytes: int
    counting: bool = False
    core: int = ANY_CORE


class Receiver:
    """The ways, from and to one sender."""

    def __init__(
        self, setting: Setting, context: Context, raw: RawReceiver | None, tally: Counter[str]
    ) -> None:
        self._ref = ref_from(setting.ref)
        self._downloader = context.downloader
        self._raw = raw
        self._tally = tally
        self._nbytes = setting.nbytes
        self._buffer = np.ones(setting.nbytes, np.uint8).data
        self._ways: dict[str, Callable[[Session], Awaitable[None]]] = {
            "raw": self._fetch_raw,
            "channel": self._fetch_channel,
            "upload": self._upload,
            "verified": self._fetch_verified,
        }

    async def obey(self, sessions: Sequence[Session]) -> None:
        """Do what the parent says, until it says no more."""
        async for command in commands():
            if command == "digest":
                say({"digest": tensor_digest(self._buffer).hex()})
                continue
            session = sessions[-1] if command.startswith(BESIDE) else sessions[0]
            await self._measure(command.removeprefix(BESIDE), session)

    async def _measure(self, way: str, session: Session) -> None:
        # Where a host takes back what a virtual machine has freed, the first touch of memory
        # measures the host: the same memory is touched and freed right before every run.
        fresh = first_touch(self._nbytes)
        self._tally.clear()
        used, began = cpu_seconds(), time.perf_counter()
        await self._ways[way](session)
        seconds = time.perf_counter() - began
        say({"seconds": seconds, "cpu": cpu_seconds() - used, "touch_s": fresh, **self._tally})

    async def _fetch_raw(self, _: Session) -> None:
        if self._raw is not None:
            self._tally["reads"] = self._raw.fetch(self._buffer)

    async def _fetch_channel(self, session: Session) -> None:
        channel = session.open(BULK_TOPIC, b"", OpenOptions(end=True, leased=True))
        channel.lease(self._buffer)
        await channel.landed()

    async def _upload(self, session: Session) -> None:
        channel = session.open(UPLOAD_TOPIC)
        channel.send_soon(self._buffer)
        channel.end()
        async for _ in channel:  # it ends when everything has landed
            continue

    async def _fetch_verified(self, session: Session) -> None:
        await self._downloader.fetch(session, self._ref, MemorySink())


def first_touch(nbytes: int) -> float:
    """Touch fresh memory, free it, and return the seconds that this took."""
    began = time.perf_counter()
    np.empty(nbytes, np.uint8)[::PAGE] = 1
    return time.perf_counter() - began


async def connect(setting: Setting, network: Transports, tally: Counter[str]) -> Link:
    """Connect as the product does, or with a link that is watched."""
    if not setting.counting:
        return await network.connect(setting.ours)
    loop, link = asyncio.get_running_loop(), WatchedLink(PATIENT, tally)
    if setting.ours.startswith("unix:"):
        await loop.create_unix_connection(lambda: link, setting.ours.removeprefix("unix://"))
    else:
        await loop.create_connection(lambda: link, *split_address(setting.ours))
    return link


async def main(arguments: Sequence[str]) -> None:
    """Receive as the command line says."""
    setting = Setting(**json.loads(arguments[0]))
    pin(setting.core)
    network, tally = transports(PATIENT, setting.certificates), Counter[str]()
    async with (
        open_context(LoopClock(), SystemRandom(), network, PATIENT) as context,
        AsyncExitStack() as stack,
    ):
        raw = None
        if setting.raw:
            raw = stack.enter_context(RawReceiver(setting.raw, credentials(setting.certificates)))
        sessions = []
        links = [await connect(setting, network, tally)]
        if setting.beside:
            links.append(await network.connect(setting.beside))
        for link in links:
            endpoint = context.endpoint("receiver", "client")
            session = Session(link, Side.CONNECTOR, endpoint)
            sessions.append(await stack.enter_async_context(session))
        await Receiver(setting, context, raw, tally).obey(sessions)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(sys.argv[1:]))
