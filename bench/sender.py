"""The sending process of ``bench.throughput``: ``python -m bench.sender SETTING``.

It serves the same memory in three ways: through a blocking socket, through a channel, and as
tensors on offer. Commands: ``raw`` answers one raw request, ``usage`` reports processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass

import numpy as np

from bench.ceilings import RawSender
from bench.cpu import ANY_CORE, cpu_seconds, pin
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.link import Listener
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.session import Side

__all__ = ["BULK_TOPIC", "LIMITS", "Setting", "ref_from"]

BULK_TOPIC = "bulk"
# A raw run blocks the loop for as long as it takes, and neither side may call that a loss.
LIMITS = Limits(heartbeat_interval=60.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen, and how much to send: ``nbytes`` in ``tensors`` tensors."""

    address: str
    raw_address: str
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
        self._shelf = context.shelf("sender")

    async def run(self, listener: Listener) -> None:
        """Offer everything and obey; ends with the parent's commands."""
        setting = self._setting
        with RawSender(setting.raw_address, setting.frame) as raw:
            ref = self._shelf.put(self._tensors()).ref
            greeting = {"ours": listener.address, "raw": raw.address, "ref": ref_text(ref)}
            say({**greeting, "digest": tensor_digest(self._source).hex()})
            link = await anext(aiter(listener))
            endpoint = self._context.endpoint("sender", "server")
            async with Session(link, Side.ACCEPTOR, endpoint) as session:
                self._shelf.attach(session)
                session.serve(BULK_TOPIC, self._bulk)
                await self._obey(raw)

    async def _obey(self, raw: RawSender) -> None:
        async for command in commands():
            if command == "raw":
                raw.answer(self._source)
            else:
                say({"cpu": cpu_seconds()})

    def _bulk(self, channel: Channel) -> None:
        channel.send_soon(self._source)
        channel.end()

    def _tensors(self) -> TensorSet:
        count = self._setting.tensors
        size = self._setting.nbytes // count
        specs = [TensorSpec(f"tensor-{number:03}", "U8", (size,)) for number in range(count)]
        views = {spec.name: self._source[at * size :][:size] for at, spec in enumerate(specs)}
        return TensorSet.from_views(specs, views)


def ref_text(ref: TensorRef) -> str:
    """Return a reference as text, for the other process."""
    return json.dumps({**asdict(ref), "layout": ref.layout.hex()})


def ref_from(text: str) -> TensorRef:
    """Return what ``ref_text`` wrote."""
    fields = json.loads(text)
    fields["layout"] = bytes.fromhex(fields["layout"])
    return TensorRef(**fields)


async def main() -> None:
    """Send as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    network = Transports(LIMITS)
    async with open_context(LoopClock(), SystemRandom(), network, LIMITS) as context:
        listener = await network.listen(setting.address)
        try:
            await Sender(setting, context).run(listener)
        finally:
            await listener.aclose()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
