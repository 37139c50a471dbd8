"""A model from one program to another, without a federation: offered by one, pulled by the other.

Both are coroutines of one program here. In real life the reference travels as text, by any way that
reaches only whoever may read.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np

from flare_async.transfer import (
    ContentCache,
    TensorSet,
    reach_tensors,
    read_ref,
    ref_text,
    serve_tensors,
)

__all__ = ["main"]

ADDRESS = "tcp://127.0.0.1:0"  # any free port; tls:// and wss:// want certificates
FROZEN = np.arange(250_000, dtype=np.float32)


def model(version: int) -> dict[str, np.ndarray]:
    """Return a model of which training changes the last layer only."""
    return {"body": FROZEN, "tied": FROZEN, "head": np.full((10, 10), version, np.float32)}


async def owner(ready: asyncio.Future[list[str]], done: asyncio.Event) -> None:
    """Offer two versions of a model, from the arrays' own memory."""
    async with serve_tensors(ADDRESS) as server:
        refs = [server.add_tensors(model(version)) for version in (1, 2)]
        ready.set_result([server.address, *map(ref_text, refs)])
        await done.wait()
        for ref in refs:
            print(f"served: {dict(server.served(ref))}")


async def reader(ready: asyncio.Future[list[str]], done: asyncio.Event, folder: Path) -> TensorSet:
    """Pull both versions into memory, and the second one into a file."""
    address, *texts = await ready
    first, second = map(read_ref, texts)
    async with reach_tensors(address) as tensors:
        known = ContentCache()  # what did not change is not sent again
        await tensors.download_tensors(first, known=known)
        found = await tensors.download_tensors(second, known=known)
        path = await tensors.download_file(second, folder / "model.safetensors")
    print(f"received: {found.nbytes} bytes, and a file of {path.stat().st_size}")
    done.set()
    return found


async def exchange(folder: Path) -> TensorSet:
    """Run both."""
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(owner(ready, done))
        reading = group.create_task(reader(ready, done, folder))
    return reading.result()


def main() -> TensorSet:
    """Exchange a model in a temporary folder; return what was received."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(exchange(Path(folder)))


if __name__ == "__main__":
    main()
