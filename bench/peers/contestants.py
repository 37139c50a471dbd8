"""Who is compared in ``bench.peers.crowd``: up to how many clients, with what, and with whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CONTESTANTS", "OURS", "OURS_SGD", "SIZES", "Contestant", "sizes_of"]

SIZES: Final = (2, 8, 50, 100, 1000, 10_000)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program, its largest size, its options, and how it is compared with which row of ours."""

    name: str
    most: int
    options: tuple[str, ...] = ()
    beside: str = ""
    at_least: float = 0.0  # times our marginal cost
    beyond: str = ""  # why no larger size, where that is a failure of the program


OURS: Final = "ours, memory and inline"
OURS_SGD: Final = "ours, a step of SGD"
CONTESTANTS: Final = (
    Contestant(
        "nvflare",
        50,
        beside=OURS,
        at_least=100.0,
        beyond="not run: its simulator hung with 100 clients in 2 of 2 runs, and refuses more",
    ),
    Contestant("flower", 1000, beside=OURS, at_least=30.0),
    Contestant("pfl, a step of SGD", 10_000, beside=OURS_SGD, at_least=1 / 1.5),
    Contestant("pfl, bare", 10_000, ("--bare",), beside=OURS, at_least=1 / 1.5),
    Contestant(OURS, 10_000, ("--work", "add", "--workers", "inline")),
    Contestant(OURS_SGD, 10_000, ("--work", "sgd", "--workers", "inline")),
    Contestant(
        "ours, tcp and processes",
        1000,
        ("--work", "add", "--workers", "process", "--transport", "tcp"),
    ),
)


def sizes_of(one: Contestant, most: int, *, beyond: bool) -> tuple[int, ...]:
    """Return the sizes that a program is run with; ``beyond`` adds the one that it fails with."""
    fitting = [size for size in SIZES if size <= one.most]
    if beyond and one.beyond:
        fitting.append(SIZES[len(fitting)])
    return tuple(size for size in fitting if size <= most)
