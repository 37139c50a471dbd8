"""The serving process of ``bench.fanout`` and ``bench.beside``: ``python -m bench.origin SETTING``.

It accepts whoever connects, as the product's server does, and offers some tensors to all of them.
Commands: ``cpu`` answers with processor time, ``memory`` with memory and the sessions that are
open, ``traced`` with the bytes that were allocated, by source file.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tracemalloc
from dataclasses import dataclass

import anyio
import numpy as np

from bench.cpu import ANY_CORE, cpu_seconds, pin
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.refs import ref_text
from bench.resident import memory_figures, traced_files
from bench.wires import transports
from flare_async.errors import FlareError
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.link import Link, Listener
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import Side

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen and how much to offer; ``tracing`` costs time."""

    address: str
    certificates: str
    nbytes: int
    tracing: bool = False
    core: int = ANY_CORE


class Origin:
    """Serves one offer to any number of sessions."""

    def __init__(self, setting: Setting, context: Context) -> None:
        self._setting = setting
        self._context = context
        self._endpoint = context.endpoint("origin", "server")
        self._shelf = context.shelf("origin")
        self._open = 0

    async def run(self, listener: Listener) -> None:
        """Accept and obey; ends with the parent's commands."""
        ref = self._shelf.put(self._tensors()).ref
        self._context.tasks.start_soon(self._accept, listener)
        say({"address": listener.address, "ref": ref_text(ref)})
        async for command in commands():
            if command == "traced":
                say({name: float(nbytes) for name, nbytes in traced_files().items()})
            elif command == "cpu":
                say({"cpu": cpu_seconds()})
            else:
                say({"sessions": self._open, **memory_figures()})

    async def _accept(self, listener: Listener) -> None:
        async for link in listener:
            self._context.tasks.start_soon(self._serve, link)

    async def _serve(self, link: Link) -> None:
        session = Session(link, Side.ACCEPTOR, self._endpoint)
        self._shelf.attach(session)  # a pull may come together with the hello
        try:
            async with session:
                self._open += 1
                try:
                    async for channel in session:
                        channel.reset(ResetCode.REFUSED, "nothing but pulls")
                finally:
                    self._open -= 1
        except FlareError as exc:
            print(f"bench.origin: session with {link.address}: {exc}", file=sys.stderr)

    def _tensors(self) -> TensorSet:
        size = self._setting.nbytes
        data = np.random.default_rng(0).integers(0, 256, size, np.uint8).data
        return TensorSet.from_views([TensorSpec("tensor", "U8", (size,))], {"tensor": data})


async def main() -> None:
    """Serve as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    raise_file_limit(0)
    network = transports(PATIENT, setting.certificates)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        listener = await network.listen(setting.address)
        try:
            if setting.tracing:
                tracemalloc.start()
            await Origin(setting, context).run(listener)
        finally:
            with anyio.CancelScope(shield=True):
                await listener.aclose()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
