"""The sending process of ``bench.throughput``: ``python -m bench.sender SETTING``.

It serves the same memory in three ways: through a blocking socket, through a channel, and as
tensors on offer; and it takes what is uploaded. It does so on one session, or on two over two
transports. Commands: ``raw`` answers one raw request, ``usage`` reports processor time, ``digest``
that of what was uploaded last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from bench.ceilings import RawSender
from bench.cpu import ANY_CORE, cpu_seconds, pin
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.refs import ref_text
from bench.wires import credentials, transports
from flare_async.jobs.loops import new_loop
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.link import Listener
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.session import Side

__all__ = ["BULK_TOPIC", "UPLOAD_TOPIC", "Setting"]

BULK_TOPIC = "bulk"
UPLOAD_TOPIC = "upload"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen, and how much to send: ``nbytes`` in ``tensors`` tensors.

    ``beside`` is the address of a second session, ``raw_address`` that of the blocking socket;
    either may be absent.
    """

    address: str
    beside: str
    raw_address: str
    certificates: str
    nbytes: int
    tensors: int
    frame: int
    core: int = ANY_CORE


class Sender:
    """The three ways, for one receiver."""

    def __init__(self, setting: Setting, context: Context) -> None:
        self._setting = setting
        self._context = context
        self._source = np.random.default_rng(0).integers(0, 256, setting.nbytes, np.uint8).data
        self._taken: memoryview | None = None
        self._shelf = context.shelf("sender")

    async def run(self, listeners: Sequence[Listener], raw: RawSender | None) -> None:
        """Offer everything and obey; ends with the parent's commands."""
        ref = self._shelf.put(self._tensors()).ref
        addresses = [listener.address for listener in listeners]
        greeting = {"ours": addresses[0], "raw": "" if raw is None else raw.address}
        beside = addresses[1] if len(addresses) > 1 else ""
        digest = tensor_digest(self._source).hex()
        say({**greeting, "beside": beside, "ref": ref_text(ref), "digest": digest})
        async with AsyncExitStack() as stack:
            for listener in listeners:
                link = await anext(aiter(listener))
                endpoint = self._context.endpoint("sender", "server")
                session = Session(link, Side.ACCEPTOR, endpoint)
                self._serve(session)  # a channel may come together with the hello
                await stack.enter_async_context(session)
            await self._obey(raw)

    def _serve(self, session: Session) -> None:
        self._shelf.attach(session)
        session.serve(BULK_TOPIC, self._bulk)
        session.serve(UPLOAD_TOPIC, self._upload)

    async def _obey(self, raw: RawSender | None) -> None:
        async for command in commands():
            if command == "raw" and raw is not None:
                raw.answer(self._source)
            elif command == "digest":
                say({"digest": tensor_digest(self._taken or b"").hex()})
            else:
                say({"cpu": cpu_seconds()})

    def _upload(self, channel: Channel) -> None:
        if self._taken is None:
            self._taken = np.ones(self._setting.nbytes, np.uint8).data
        channel.lease(self._taken)
        start_soon(self._context.tasks, self._confirm, channel)

    async def _confirm(self, channel: Channel) -> None:
        await channel.landed()
        channel.end()

    def _bulk(self, channel: Channel) -> None:
        channel.send_soon(self._source)
        channel.end()

    def _tensors(self) -> TensorSet:
        count = self._setting.tensors
        size = self._setting.nbytes // count
        specs = [TensorSpec(f"tensor-{number:03}", "U8", (size,)) for number in range(count)]
        views = {spec.name: self._source[at * size :][:size] for at, spec in enumerate(specs)}
        return TensorSet.from_views(specs, views)


async def main() -> None:
    """Send as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    network = transports(PATIENT, setting.certificates)
    async with (
        open_context(LoopClock(), SystemRandom(), network, PATIENT) as context,
        AsyncExitStack() as stack,
    ):
        raw = None
        if setting.raw_address:
            proof = credentials(setting.certificates)
            raw = stack.enter_context(RawSender(setting.raw_address, setting.frame, proof))
        listeners = []
        for address in filter(None, (setting.address, setting.beside)):
            listeners.append(await network.listen(address))
            stack.push_async_callback(listeners[-1].aclose)
        await Sender(setting, context).run(listeners, raw)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
