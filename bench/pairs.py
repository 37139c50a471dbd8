"""Alternating runs of two processes: every run of ours has a raw run right beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Self

from bench.child import Child, Message
from bench.cpu import ANY_CORE
from bench.size import format_size

__all__ = ["Pair", "Pairs", "Run", "Wire"]


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer: its rate, and the processor time of both processes."""

    gb_s: float
    cpu_s_gb: float
    touch_gb_s: float
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """A run of ours and the raw run before it."""

    raw: Run
    ours: Run

    @property
    def ratio(self) -> float:
        """Our rate in raw rates."""
        return self.ours.gb_s / self.raw.gb_s


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one way to transfer."""

    pairs: list[Pair]

    @property
    def ratio(self) -> float:
        """The median ratio, each run measured by the raw one beside it."""
        return median(pair.ratio for pair in self.pairs)

    def ours(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure of our runs."""
        return median(figure(pair.ours) for pair in self.pairs)

    def raw(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure of the raw runs beside ours."""
        return median(figure(pair.raw) for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Wire:
    """What is transferred, over what, and the cores of sender and receiver."""

    transport: str
    nbytes: int
    tensors: int
    frame: int
    cores: tuple[int, int] = (ANY_CORE, ANY_CORE)

    @contextmanager
    def opened(self, *, counting: bool = False) -> Iterator[Peers]:
        """Start both processes; they end with the block."""
        with tempfile.TemporaryDirectory(prefix="fb-") as folder:
            first = "tcp://127.0.0.1:0" if self.transport == "tcp" else f"unix://{folder}/ours"
            second = "tcp://127.0.0.1:0" if self.transport == "tcp" else f"unix://{folder}/raw"
            sent: Message = {"nbytes": self.nbytes, "tensors": self.tensors, "frame": self.frame}
            core = self.cores[0]
            where: Message = {"address": first, "raw_address": second, "core": core}
            with Child("bench.sender", {**where, **sent}) as sender:
                found = sender.hear()
                digest = str(found.pop("digest"))
                core = self.cores[1]
                asked: Message = {"nbytes": self.nbytes, "counting": counting, "core": core}
                with Child("bench.receiver", {**found, **asked}) as receiver:
                    yield Peers(sender, receiver, self.nbytes, digest)

    def __str__(self) -> str:
        pinned = "" if ANY_CORE in self.cores else ", a core each"
        return f"{self.transport}, {format_size(self.nbytes)}{pinned}"

    def rounded(self) -> Self:
        """Return the same with tensors of equal length."""
        return replace(self, nbytes=max(1, self.nbytes // self.tensors) * self.tensors)


class Peers:
    """The two processes."""

    def __init__(self, sender: Child, receiver: Child, nbytes: int, digest: str) -> None:
        self._sender = sender
        self._receiver = receiver
        self._nbytes = nbytes
        self._digest = digest

    def run(self, way: str) -> Run:
        """Transfer once, ``raw``, by ``channel`` or ``verified``."""
        before = float(self._sender.ask("usage")["cpu"])
        if way == "raw":
            self._sender.tell("raw")
        found = {name: float(value) for name, value in self._receiver.ask(way).items()}
        after = float(self._sender.ask("usage")["cpu"])
        cpu = found.pop("cpu") + after - before
        size = self._nbytes / 1e9
        rate, touch = size / found.pop("seconds"), size / found.pop("touch_s")
        return Run(rate, cpu / size, touch, found)

    def check(self, way: str) -> None:
        """Transfer once, unmeasured, and compare what arrived.

        Raises:
            ValueError: it is not what was sent.
        """
        self.run(way)
        if self._receiver.ask("digest")["digest"] != self._digest:
            raise ValueError(f"{way}: other bytes arrived than were sent")

    def pair(self, way: str) -> Pair:
        """Return a run and the raw one before it."""
        raw = self.run("raw")
        return Pair(raw, self.run(way))
