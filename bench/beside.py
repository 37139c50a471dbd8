"""What 31 clients get while another one has stopped reading (F01), on real sockets.

A server, 31 clients in a second process, and one in a third. The third begins to pull and stops
itself by a signal when its first bytes have come: its socket buffers fill, and nobody reads them.
Runs alternate, without and with it; a ratio is that of two neighbours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.child import Child, Message
from bench.cpu import ANY_CORE
from bench.size import format_size
from bench.table import Row
from bench.wires import listening, write_certificates

__all__ = ["Beside", "beside_rows"]

OTHERS: Final = 31
TARGET: Final = 0.8


@dataclass(frozen=True, slots=True)
class Beside:
    """Who pulls what."""

    transport: str
    nbytes: int
    others: int = OTHERS
    cores: tuple[int, int] = (ANY_CORE, ANY_CORE)

    def __str__(self) -> str:
        return f"{self.transport}, {self.others} clients, {format_size(self.nbytes)} each"

    @contextmanager
    def opened(self) -> Iterator[tuple[Child, Child]]:
        """Start the three processes; yield the crowd and the one that will be stopped."""
        with tempfile.TemporaryDirectory(prefix="fb-") as folder:
            write_certificates(folder)
            both: Message = {"certificates": folder}
            address = listening(self.transport, folder, "origin")
            served: Message = {"address": address, "nbytes": self.nbytes, "core": self.cores[0]}
            with Child("bench.origin", {**both, **served}) as origin:
                where = {**both, **origin.hear(), "core": self.cores[1]}
                many: Message = {"clients": self.others, "at_once": self.others}
                one: Message = {"clients": 1, "at_once": 1}
                with (
                    Child("bench.crowd", {**where, **many}) as crowd,
                    Child("bench.crowd", {**where, **one}) as straggler,
                ):
                    for child in (crowd, straggler):
                        child.hear()
                        child.ask("connect")
                        child.ask("pull")
                    yield crowd, straggler


def beside_rows(beside: Beside, pairs: int) -> list[Row]:
    """Run all pairs and return their rows."""
    alone, stopped = [], []
    with beside.opened() as (crowd, straggler):
        for _ in range(max(1, pairs)):
            alone.append(float(crowd.ask("pull")["seconds"]))
            stopped.append(seconds_beside(crowd, straggler))
    size = beside.nbytes * beside.others / 1e9
    ratio = median(without / seconds for without, seconds in zip(alone, stopped, strict=True))
    name, metric = str(beside), "all of them, beside a peer that stopped"
    rate, before = size / median(stopped), size / median(alone)
    judged = Row(name, f"median ratio of {len(alone)} pairs", ratio)
    return [
        Row(name, metric, rate, "GB/s", "without it", before, ratio),
        judged.against("target, at least", TARGET),
    ]


def seconds_beside(crowd: Child, straggler: Child) -> float:
    """Return what the others need while one is stopped, which then goes on.

    Raises:
        ValueError: it had everything when it stopped.
    """
    straggler.tell("halt")
    straggler.wait_until_stopped()
    try:
        seconds = float(crowd.ask("pull")["seconds"])
    finally:
        straggler.go_on()
    if not straggler.ask("finish")["missing"]:
        raise ValueError("the straggler had its bytes before it stopped: let all pull more")
    return seconds
