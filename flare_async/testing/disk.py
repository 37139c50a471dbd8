"""A simulated disk: the store port with latencies, a cache that a crash loses, and faults.

What was written is in one of three places. An operation that is *under way* takes a seeded time and
changes what readers see at its end; cancelled before, it has changed nothing. What was appended is
*buffered* after it: readers see it, a crash keeps a seeded prefix. After ``sync`` it is *durable*.
``write`` replaces a file as a rename does, whole or not at all, and is durable on return.

``crash`` is the loss of the host's power: buffered bytes are cut to a prefix, and of what is under
way, a write has happened or not and an append has left a prefix, as the dice say; what comes after
bytes that are lost is lost as well. Operations from before the crash fail when their time is over,
should their callers still live.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from flare_async.errors import ConfigError, WorkspaceError
from flare_async.ports import Clock, Random
from flare_async.testing.delay import pass_seconds

__all__ = ["SimDisk"]

LATENCY: Final = (0.0001, 0.005)


@dataclass(slots=True, eq=False)
class Doing:
    """An operation that is under way."""

    kind: Literal["write", "append", "read", "sync"]
    name: str
    data: bytes = b""


class SimDisk:
    """Files in memory with the habits of a disk; seeded by the stream ``disk``.

    ``latency`` bounds the seconds of an operation: without them a check that awaits a write has no
    width, and the races around it cannot be found. ``capacity`` is the bytes that fit. ``flips`` is
    the probability that one bit of what is read is another, ``failures`` that an operation fails.
    With ``lies`` nothing is durable on return, whatever is said: a disk that ignores flushes.

    Raises:
        ConfigError: a latency, a capacity or a probability that no disk has.
    """

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        latency: tuple[float, float] = LATENCY,
        capacity: float = math.inf,
        flips: float = 0.0,
        failures: float = 0.0,
        lies: bool = False,
    ) -> None:
        if not 0 <= latency[0] <= latency[1] < math.inf:
            raise ConfigError("latency", latency, "must be two seconds, the lower one first")
        if not capacity >= 0:
            raise ConfigError("capacity", capacity, "bytes from 0 on are needed")
        for name, chance in (("flips", flips), ("failures", failures)):
            if not 0 <= chance <= 1:
                raise ConfigError(name, chance, "a probability from 0 to 1 is needed")
        self.files: dict[str, bytes] = {}
        self.capacity = capacity
        self.flips = flips
        self.failures = failures
        self.crashes = 0
        self._lies = lies
        self._clock = clock
        self._dice = random.stream("disk")
        self._latency = latency
        self._kept: dict[str, bytes] = {}  # of each file, what a crash leaves at least
        self._doing: list[Doing] = []

    @property
    def used(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    @property
    def buffered(self) -> int:
        """Bytes that a crash may lose."""
        kept = self._kept
        return sum(len(data) - len(kept.get(name, b"")) for name, data in self.files.items())

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name``; durable on return; bounded by the latency.

        Raises:
            WorkspaceError: it does not fit beside the former one, or fails; nothing has changed.
        """
        data = b"".join(chunks)
        await self._turn(Doing("write", name, data))
        if self.used + len(data) > self.capacity:
            raise self._full(name, len(data))
        self.files[name] = data
        if not self._lies:
            self._kept[name] = data

    async def append(self, name: str, data: bytes) -> None:
        """Append to ``name``, into the buffer only; bounded by the latency.

        Raises:
            WorkspaceError: it fails, or does not fit: then what did fit is there.
        """
        await self._turn(Doing("append", name, data))
        room = self.capacity - self.used
        fits = data if len(data) <= room else data[: max(0, int(room))]
        self.files[name] = self.files.get(name, b"") + fits
        if len(fits) < len(data):
            raise self._full(name, len(data))

    async def sync(self, name: str) -> None:
        """Make durable what was appended to ``name`` before; bounded by the latency.

        Raises:
            WorkspaceError: there is no such file, or it fails.
        """
        data = self._found(name)  # what is appended meanwhile is not of this flush
        await self._turn(Doing("sync", name))
        if not self._lies and self.files.get(name, b"").startswith(data):
            self._kept[name] = max(data, self._kept.get(name, b""), key=len)

    async def read(self, name: str) -> bytes:
        """Return the whole of ``name``; bounded by the latency.

        Raises:
            WorkspaceError: there is no such file, or it fails.
        """
        await self._turn(Doing("read", name))
        data = self._found(name)
        return self._flipped(data) if self.flips and self._dice.random() < self.flips else data

    def remove(self, name: str) -> None:
        """Delete a file at once and for good; harmless where there is none."""
        self.files.pop(name, None)
        self._kept.pop(name, None)

    def rot(self, name: str) -> None:
        """Flip one bit of a stored file for good; where, the dice say. Raises WorkspaceError."""
        data = self._flipped(self._found(name))
        kept = self._kept.get(name, b"")
        self.files[name] = data
        if len(kept) <= len(data):
            self._kept[name] = data[: len(kept)]

    def crash(self) -> None:
        """Lose what is not durable, but for a prefix; the files are what a restart finds."""
        self.crashes += 1
        before = dict(self.files)
        for name, data in before.items():
            kept = self._kept.get(name)
            if kept is not None and not data.startswith(kept):  # replaced by a disk that lies
                self.files[name] = kept if self._dice.random() < 0.5 else data
            elif kept is None and self._dice.random() < 0.5:
                del self.files[name]
            else:
                least = len(kept or b"")
                self.files[name] = data[: self._dice.randint(least, len(data))]
        for doing in self._doing:
            self._half_done(doing, before.get(doing.name, b""))
        self._doing.clear()
        self._kept = dict(self.files)

    def _half_done(self, doing: Doing, before: bytes) -> None:
        if doing.kind == "write" and self._dice.random() < 0.5:
            self.files[doing.name] = doing.data
        elif doing.kind == "append":
            part = doing.data[: self._dice.randint(0, len(doing.data))]
            if part and self.files.get(doing.name, b"") == before:  # else it would follow a hole
                self.files[doing.name] = before + part

    def _found(self, name: str) -> bytes:
        if name not in self.files:
            raise WorkspaceError("name", name, "does not exist on the simulated disk")
        return self.files[name]

    def _flipped(self, data: bytes) -> bytes:
        if not data:
            return data
        bit = self._dice.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        return bytes(changed)

    def _full(self, name: str, nbytes: int) -> WorkspaceError:
        room = max(0, int(self.capacity - self.used))
        problem = f"No space left on device: {nbytes} bytes, room for {room}"
        return WorkspaceError("name", name, problem)

    async def _turn(self, doing: Doing) -> None:
        """Let the operation's time pass; it is then over, done or not. Raises WorkspaceError."""
        crashes = self.crashes
        self._doing.append(doing)
        try:
            await pass_seconds(self._clock, self._dice.uniform(*self._latency))
        finally:
            if self.crashes == crashes:
                self._doing.remove(doing)
        if self.crashes != crashes:
            raise WorkspaceError("name", doing.name, f"the disk crashed during the {doing.kind}")
        if self.failures and self._dice.random() < self.failures:
            raise WorkspaceError("name", doing.name, f"Input/output error during the {doing.kind}")
