"""Alternating runs of two processes: every run of ours has its reference right beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final, Self

from bench.child import Child, Message
from bench.cpu import ANY_CORE
from bench.receiver import BESIDE
from bench.size import format_size
from bench.wires import listening, write_certificates

__all__ = ["Pair", "Pairs", "Run", "Wire"]

OVER_TCP: Final = ("ws", "wss")  # no ceiling of its own: what is lost against tcp is the question


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer: its rate, and the processor time of both processes."""

    gb_s: float
    cpu_s_gb: float
    touch_gb_s: float
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """A run of ours and its reference: the raw run, or the one over tcp, before it."""

    reference: Run
    ours: Run

    @property
    def ratio(self) -> float:
        """Our rate in rates of the reference."""
        return self.ours.gb_s / self.reference.gb_s


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one way to transfer."""

    pairs: list[Pair]

    @property
    def ratio(self) -> float:
        """The median ratio, each run measured by the one beside it."""
        return median(pair.ratio for pair in self.pairs)

    def ours(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure of our runs."""
        return median(figure(pair.ours) for pair in self.pairs)

    def reference(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure of the runs beside ours."""
        return median(figure(pair.reference) for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Wire:
    """What is transferred, over what, and the cores of sender and receiver."""

    transport: str
    nbytes: int
    tensors: int
    frame: int
    cores: tuple[int, int] = (ANY_CORE, ANY_CORE)

    @property
    def reference(self) -> str:
        """What a run is compared with: blocking sockets, or the same way over tcp."""
        return "tcp" if self.transport in OVER_TCP else "raw"

    @contextmanager
    def opened(self, *, counting: bool = False) -> Iterator[Peers]:
        """Start both processes; they end with the block."""
        with tempfile.TemporaryDirectory(prefix="fb-") as folder:
            write_certificates(folder)
            with Child("bench.sender", self._sent(folder)) as sender:
                found = sender.hear()
                digest = str(found.pop("digest"))
                asked: Message = {"nbytes": self.nbytes, "core": self.cores[1]}
                both: Message = {"counting": counting, "certificates": folder}
                with Child("bench.receiver", {**found, **asked, **both}) as receiver:
                    yield Peers(self, sender, receiver, digest)

    def _sent(self, folder: str) -> Message:
        beside = listening("tcp", folder, "beside") if self.reference == "tcp" else ""
        raw = listening(self.transport, folder, "raw") if self.reference == "raw" else ""
        where: Message = {"address": listening(self.transport, folder, "ours"), "beside": beside}
        what: Message = {"nbytes": self.nbytes, "tensors": self.tensors, "frame": self.frame}
        rest: Message = {"raw_address": raw, "certificates": folder, "core": self.cores[0]}
        return {**where, **what, **rest}

    def __str__(self) -> str:
        pinned = "" if ANY_CORE in self.cores else ", a core each"
        return f"{self.transport}, {format_size(self.nbytes)}{pinned}"

    def rounded(self) -> Self:
        """Return the same with tensors of equal length."""
        return replace(self, nbytes=max(1, self.nbytes // self.tensors) * self.tensors)


class Peers:
    """The two processes."""

    def __init__(self, wire: Wire, sender: Child, receiver: Child, digest: str) -> None:
        self._wire = wire
        self._sender = sender
        self._receiver = receiver
        self._digest = digest

    def run(self, way: str) -> Run:
        """Transfer once: ``raw``, by ``channel`` or ``upload``, or ``verified``."""
        before = float(self._sender.ask("usage")["cpu"])
        if way == "raw":
            self._sender.tell("raw")
        found = {name: float(value) for name, value in self._receiver.ask(way).items()}
        after = float(self._sender.ask("usage")["cpu"])
        cpu = found.pop("cpu") + after - before
        size = self._wire.nbytes / 1e9
        rate, touch = size / found.pop("seconds"), size / found.pop("touch_s")
        return Run(rate, cpu / size, touch, found)

    def check(self, way: str) -> None:
        """Transfer once, unmeasured, and compare what arrived.

        Raises:
            ValueError: it is not what was sent.
        """
        self.run(way)
        taker = self._sender if way.endswith("upload") else self._receiver
        if taker.ask("digest")["digest"] != self._digest:
            raise ValueError(f"{way}: other bytes arrived than were sent")

    def pair(self, way: str) -> Pair:
        """Return a run and the reference's before it."""
        reference = self.run("raw" if self._wire.reference == "raw" else BESIDE + way)
        return Pair(reference, self.run(way))
