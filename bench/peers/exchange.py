"""One peer's run of the exchange, and the figures of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from bench.peers.environments import python_of
from bench.peers.tree import Watched, watch
from bench.peers.warm import touch

__all__ = ["Exchange", "Figures", "figures_of", "run_peer"]

HERE: Final = Path(__file__).parent
PROGRAMS: Final = {
    "nvflare": "nvflare_job.py",
    "flower": "flower_app.py",
    "flower, deployed": "flower_deployed.py",
    "pfl": "pfl_app.py",
    "ours": "ours.py",
    "ours, deployed": "deployed.py",
}
QUIET: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
TAIL: Final = 1500


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is exchanged, and how long anybody may take for it."""

    clients: int
    rounds: int
    nbytes: int
    timeout: float
    envs: Path
    workspace: Path | None = None
    warm: int = 0  # bytes of memory to touch before each program
    noted: bool = True  # whether sites note when they train, in a file; if not, no steady round


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run cost; ``problem`` says that it failed, and then nothing else counts."""

    wall: float = 0.0
    round: float = 0.0
    peak: int = 0
    largest: int = 0
    problem: str = ""

    def row(self) -> dict[str, float | int | str]:
        """Return the figures as a document has them."""
        return asdict(self)


def run_peer(name: str, exchange: Exchange, *options: str) -> Figures:
    """Run one peer and return its figures; a failure of any kind is a problem."""
    kind = name.partition(",")[0]
    try:
        python = Path(sys.executable) if kind == "ours" else python_of(kind, exchange.envs)
    except (OSError, subprocess.CalledProcessError) as exc:
        return Figures(problem=f"no environment: {exc}")
    with tempfile.TemporaryDirectory(prefix="peer-", dir=exchange.workspace) as folder:
        words = ["--folder", folder, "--nbytes", str(exchange.nbytes)]
        words += ["--clients", str(exchange.clients), "--rounds", str(exchange.rounds), *options]
        words += ["--silent"] * (not exchange.noted)
        if exchange.warm:
            touch(exchange.warm)
        command = [str(python), str(HERE / PROGRAMS.get(name, PROGRAMS[kind])), *words]
        done = watch(
            command,
            Path(folder).name,
            Path(folder) / "output.log",
            timeout=exchange.timeout,
            env={**QUIET, **surroundings(kind, python, Path(folder))},
        )
        return figures_of(done, Path(folder), exchange.rounds if exchange.noted else 0)


def surroundings(kind: str, python: Path, folder: Path) -> dict[str, str]:
    """Return variables that one peer needs."""
    if kind == "ours":
        return {"PYTHONPATH": str(HERE.parents[1])}
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PATH": path, "FLWR_HOME": str(folder / "flwr"), "HOME": str(folder)}


def figures_of(done: Watched, folder: Path, rounds: int) -> Figures:
    """Return the figures of a program that has ended, from its last line and the sites' notes.

    ``rounds`` is how often each site has noted when it began; 0 is that nobody did.
    """
    lines = [line for line in done.output.splitlines() if line.startswith('{"ok"')]
    if done.late:
        return Figures(problem=f"not done after {done.seconds:.0f} s")
    if done.status or not lines or not json.loads(lines[-1])["ok"]:
        last = " | ".join(done.output[-TAIL:].split("\n")[-6:])
        return Figures(problem=f"status {done.status}: {lines[-1] if lines else last}")
    if not rounds:
        return Figures(done.seconds, 0.0, done.peak, done.largest)
    stamps = [begins(path) for path in sorted(folder.glob("*.txt"))]
    stamps = [found for found in stamps if len(found) == rounds]
    if not stamps:
        return Figures(problem="no site took part in every round")
    return Figures(done.seconds, steady_round(stamps), done.peak, done.largest)


def begins(path: Path) -> list[float]:
    """Return when a site began each of its trainings."""
    return [float(line) for line in path.read_text("ascii").split()]


def steady_round(stamps: Sequence[Sequence[float]]) -> float:
    """Return the median time from a site's training to its next, the same for every peer."""
    pairs = [later - earlier for one in stamps for earlier, later in pairwise(one)]
    return statistics.median(pairs) if pairs else 0.0
