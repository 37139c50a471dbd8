"""The answering process of ``bench.latency``: ``python -m bench.responder SETTING``.

Over one session it echoes what comes on the ``echo`` channel, sends as many bytes as a ``bulk``
channel's header asks for, takes what comes on a ``sink`` channel, and sends on an ``endless``
channel as long as its reader grants credit. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from dataclasses import dataclass
from typing import Final

import anyio
import numpy as np

from bench.cpu import ANY_CORE, pin
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.wires import transports
from flare_async.errors import FlareError
from flare_async.jobs.loops import new_loop
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.link import Listener
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.wire.session import Side

__all__ = ["BULK_TOPIC", "COUNT", "ECHO_TOPIC", "ENDLESS_TOPIC", "SINK_TOPIC", "Setting"]

ECHO_TOPIC: Final = "echo"
BULK_TOPIC: Final = "bulk"
SINK_TOPIC: Final = "sink"
ENDLESS_TOPIC: Final = "endless"
COUNT: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen; ``nbytes`` is the most that one bulk channel is asked for."""

    address: str
    certificates: str
    nbytes: int
    core: int = ANY_CORE


class Responder:
    """Answers one peer."""

    def __init__(self, setting: Setting, context: Context) -> None:
        self._context = context
        self._source = np.ones(setting.nbytes, np.uint8).data
        self._taken = np.ones(setting.nbytes, np.uint8).data

    async def run(self, listener: Listener) -> None:
        """Answer and obey; ends with the parent's commands."""
        say({"address": listener.address})
        link = await anext(aiter(listener))
        endpoint = self._context.endpoint("responder", "server")
        session = Session(link, Side.ACCEPTOR, endpoint)
        session.serve(ECHO_TOPIC, self._echo)  # a channel may come together with the hello
        session.serve(BULK_TOPIC, self._bulk)
        session.serve(SINK_TOPIC, self._sink)
        session.serve(ENDLESS_TOPIC, self._send)
        async with session:
            async for _ in commands():
                continue

    def _echo(self, channel: Channel) -> None:
        start_soon(self._context.tasks, self._return, channel)

    async def _return(self, channel: Channel) -> None:
        async for chunk in channel:
            channel.send_soon(bytes(chunk))

    def _bulk(self, channel: Channel) -> None:
        (count,) = COUNT.unpack(channel.header)
        channel.send_soon(self._source[:count])
        channel.end()

    def _sink(self, channel: Channel) -> None:
        channel.lease(self._taken)
        channel.end()

    def _send(self, channel: Channel) -> None:
        start_soon(self._context.tasks, self._send_on, channel)

    async def _send_on(self, channel: Channel) -> None:
        with anyio.CancelScope() as scope:
            channel.on_failed = scope.cancel
            try:
                while True:
                    await channel.send(self._source)
            except FlareError:
                return  # its reader has left


async def main() -> None:
    """Answer as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    network = transports(PATIENT, setting.certificates)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        listener = await network.listen(setting.address)
        try:
            await Responder(setting, context).run(listener)
        finally:
            with anyio.CancelScope(shield=True):
                await listener.aclose()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
