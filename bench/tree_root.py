"""The server of ``bench.relay``: ``python -m bench.tree_root SETTING``.

It offers one model to whoever has its reference. Command ``served`` answers with the bytes that it
was asked for since the last time, ``memory`` with this process's memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import numpy as np

from bench.patience import PATIENT
from bench.peak import peak_figures
from bench.pipe import commands, say
from bench.refs import ref_text
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen, and the model: so many tensors of so many bytes."""

    address: str
    tensors: int
    nbytes: int


def model(setting: Setting) -> TensorSet:
    """Return the model that is offered."""
    draw = np.random.default_rng(0)
    names = [f"t{number}" for number in range(setting.tensors)]
    specs = [TensorSpec(name, "U8", (setting.nbytes,)) for name in names]
    data = {name: draw.integers(0, 256, setting.nbytes, np.uint8).data for name in names}
    return TensorSet.from_views(specs, data)


async def main() -> None:
    """Serve as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    network = Transports(PATIENT)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        server = Server(context, "root")
        offer = server.shelf.put(model(setting))
        async with server.listen(setting.address) as address:
            say({"address": address, "ref": ref_text(offer.ref)})
            async for command in commands():
                if command == "served":
                    say({"served": sum(offer.served.values())})
                    offer.served.clear()
                else:
                    say(peak_figures())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
