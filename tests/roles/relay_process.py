"""One site in a process of its own: ``python relay_process.py ADDRESS NAME ready|silent``."""

from __future__ import annotations

import sys

import anyio
import numpy as np

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.client import Client, SiteResult
from flare_async.roles.context import open_context
from flare_async.transfer.tensors import TensorSet


class Adds:
    """A worker that adds one to the model."""

    async def run(self, task):
        """Work on one task."""
        params = {name: array + np.float32(1) for name, array in task.tensors.numpy().items()}
        return SiteResult(TensorSet.from_params(params), "FULL", {}, {"weight": 1.0})


async def never(notice):
    """Never get ready."""
    await anyio.sleep_forever()


async def main(address, name, kind):
    """Serve until the relay says goodbye."""
    limits = Limits()
    network = Transports(limits)
    async with open_context(LoopClock(), SystemRandom(), network, limits) as context:
        prepare = never if kind == "silent" else None
        await Client(context, name, Adds(), prepare=prepare).run(address)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
