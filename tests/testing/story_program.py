"""A program whose sets, cancellations and draws would show a dependence on the hash seed."""

from __future__ import annotations

import asyncio
import sys

import anyio

from flare_async.errors import FlareError
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.loop import SimLoop
from flare_async.testing.network import SimNetwork
from flare_async.testing.ports import SimStore


async def client(network: SimNetwork, store: SimStore, name: str) -> None:
    """Connect, write, and wait until somebody cancels."""
    try:
        link = await network.connect("sim://server")
        await store.append("log", name.encode())
        link.abort()
        await anyio.sleep_forever()
    except FlareError:
        await store.append("errors", name.encode())


async def main(seed: int) -> bytes:
    """Run clients whose names are strings, in the order of a set, and cancel them all."""
    clock, random = LoopClock(), SeededRandom(seed)
    network, store = SimNetwork(clock, random), SimStore(clock, random)
    listener = await network.listen("sim://server")
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(client, network, store, f"client-{number}")
        await anyio.sleep(0.012)
        await listener.aclose()
        await asyncio.to_thread(sorted, [2, 1])
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    return store.files["log"] + store.files.get("errors", b"")


if __name__ == "__main__":
    trace: list[tuple[float, str, str]] = []
    loop = SimLoop(int(sys.argv[1]), trace=trace)
    log = loop.run_until_complete(main(int(sys.argv[1])))
    print(len(trace), loop.trace_hash(), log.decode())
    loop.close()
