"""The server of ``bench.memory``: ``python -m bench.memory_server SETTING``.

It says its address, then that all clients are there. Command ``base`` answers with the resident
size at that moment and lets the peak begin anew, ``load`` makes the model, ``round`` runs one round
and gives memory back, ``peak`` answers with the peak since ``base``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from bench.memory_model import new_model
from bench.peak import peak_figures
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.jobs.memory import return_memory
from flare_async.jobs.threads import run_to_end
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["LIMITS", "Setting"]

# Client processes that fight for the same cores are slow to begin, and that is no loss.
LIMITS: Final = replace(Limits(), start_timeout=300.0, stall_timeout=300.0, heartbeat_interval=30.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where to listen, how many clients to wait for, the model, and where updates wait."""

    address: str
    clients: int
    nbytes: int
    tensor_bytes: int
    spool: str


class Unobserved:
    """An observer of rounds that keeps nothing but who failed."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def site_started(self, number: int, site: str) -> None:
        """Take note of nothing."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Keep why a site failed."""
        if record.reason:
            self.problems.append(f"round {number}, {record.site}: {record.reason}")


class Rounds:
    """The global model and the rounds that replace it."""

    def __init__(self, cohort: Cohort, setting: Setting) -> None:
        self._cohort = cohort
        self._setting = setting
        self._number = 0
        self._model: TensorSet | None = None

    def load(self) -> None:
        """Make the first model."""
        self._model = new_model(self._setting.nbytes, self._setting.tensor_bytes)

    @property
    def value(self) -> float:
        """The last number of the model, by which a result is known."""
        arrays = list(self._model.numpy().values()) if self._model is not None else []
        return float(arrays[-1].flat[-1]) if arrays else 0.0

    async def play(self) -> dict[str, float]:
        """Run one round; return its figures."""
        if self._model is None:
            self.load()
        began, faults = time.perf_counter(), page_faults()
        spilled = await self._replace(RoundTask("bench", self._number, 0, keep_until="received"))
        seconds = time.perf_counter() - began
        self._number += 1
        return {"seconds": seconds, "faults": page_faults() - faults, "spilled": spilled}

    async def _replace(self, task: RoundTask) -> float:
        model, self._model = self._model, None
        if model is None:
            return 0.0
        sites, options = self._cohort.sites, MeanOptions(spool_folder=Path(self._setting.spool))
        with WeightedMean(model, order=sites, limits=LIMITS, options=options) as mean:
            async with self._cohort.round(task, model, reducer=mean) as updates:
                async for _ in updates:
                    pass
                self._model = await run_to_end(mean.finish)
            return float(mean.statistics.spilled_bytes)


def page_faults() -> int:
    """Return how many pages this process has touched first."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def base_figures() -> dict[str, float]:
    """Give memory back, let the peak begin anew, and return the resident size."""
    return_memory()
    peak_figures()
    return dict(peak_figures())


async def serve(setting: Setting) -> None:
    """Serve as the command line says."""
    names = [f"site-{number}" for number in range(setting.clients)]
    network = Transports(LIMITS)
    async with open_context(LoopClock(), SystemRandom(), network, LIMITS) as context:
        server, seen = Server(context), Unobserved()
        async with server.listen(setting.address) as address:
            say({"address": address})
            await server.wait_for(names, len(names))
            say({"connected": len(names)})
            rounds = Rounds(Cohort(server, names, seen), setting)
            async for command in commands():
                if command == "base":
                    say(base_figures())
                elif command == "load":
                    rounds.load()
                    say({**peak_figures_kept(), "value": rounds.value})
                elif command == "round":
                    say({**await rounds.play(), **after_trim()})
                else:
                    say({**peak_figures_kept(), "value": rounds.value})
            if seen.problems:
                sys.stderr.write("\n".join(seen.problems[:10]) + "\n")


def after_trim() -> dict[str, float]:
    """Give memory back and return the resident size, the peak untouched."""
    before = status()["VmRSS"]
    return_memory()
    return {"untrimmed": before, "rss": status()["VmRSS"]}


def peak_figures_kept() -> dict[str, float]:
    """Return the peak and what the resident size is made of, in bytes; the peak goes on."""
    found = status()
    parts = {name: found.get(name, 0.0) for name in ("RssAnon", "RssFile", "RssShmem")}
    return {"peak": found["VmHWM"], "rss": found["VmRSS"], **parts}


def status() -> dict[str, float]:
    """Return the sizes in this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines]
    return {row[0].rstrip(":"): 1024.0 * int(row[1]) for row in rows if row[-1] == "kB"}


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers alone
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(Setting(**json.loads(sys.argv[1]))))
