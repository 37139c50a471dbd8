"""The simulated ports beside the network: a store in memory, and the seeded random port."""

from __future__ import annotations

from collections.abc import Iterable

from flare_async.errors import WorkspaceError
from flare_async.net.rng import SeededRandom
from flare_async.ports import Clock, Random
from flare_async.testing.delay import pass_seconds

__all__ = ["SeededRandom", "SimStore"]


class SimStore:
    """Files in memory, each operation after a seeded latency from the stream ``disk``.

    The latency matters: a check that awaits a write of no width hides the races around it. What an
    operation changes, it changes at its end; one that is cancelled before has changed nothing.
    """

    def __init__(
        self, clock: Clock, random: Random, *, latency: tuple[float, float] = (0.0001, 0.005)
    ) -> None:
        self.files: dict[str, bytes] = {}
        self._clock = clock
        self._dice = random.stream("disk")
        self._latency = latency

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name``; bounded by the latency."""
        data = b"".join(chunks)
        await self._turn()
        self.files[name] = data

    async def append(self, name: str, data: bytes) -> None:
        """Append to ``name``; bounded by the latency."""
        await self._turn()
        self.files[name] = self.files.get(name, b"") + data

    async def read(self, name: str) -> bytes:
        """Return the whole of ``name``; bounded by the latency.

        Raises:
            WorkspaceError: there is no such file.
        """
        await self._turn()
        if name not in self.files:
            raise WorkspaceError("name", name, "does not exist in the simulated store")
        return self.files[name]

    async def _turn(self) -> None:
        await pass_seconds(self._clock, self._dice.uniform(*self._latency))
