"""What a virtual client costs: the real server, relays and clients, size-only payloads.

Run as ``python -m bench.virtual_clients``; two rounds of 10,000 clients over 20 relays by default.
All frames, credits and acknowledgements pass through sessions, channels, transfers and relays; no
byte is copied, hashed or added. Beside the wall time stands the time of the processor, which others
who use the machine lengthen less. The trace hash has to be the same at every run of a seed:
``--hash-seeds 0 1 77`` plays the case in a process with each of these as ``PYTHONHASHSEED`` and
ends with 1 if a hash is another one.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.hash_seeds import TRACE, compared
from bench.table import Report, Row
from flare_async.jobs.measure import peak_rss_mb
from flare_async.limits import KIB, MIB, Limits
from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe
from flare_async.sim.virtual import VirtualRun, VirtualSetting, play_virtual
from flare_async.sim.virtual.networks import read_profile
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel

__all__ = ["Case", "play_case", "rows_of"]

TARGET_S: Final = 60.0
CREDIT: Final = 4096 * MIB  # of a relay: enough for whole frames to hundreds of sites at once


@dataclass(frozen=True, slots=True)
class Case:
    """Who takes part, and what is sent."""

    clients: int = 10_000
    rounds: int = 2
    relays: int = 20
    relay_mode: str = "cache"
    nbytes: int = MIB
    frame_bytes: int = 256 * KIB
    network: str = "wan"
    seed: int = 7

    def __str__(self) -> str:
        behind = f", {self.relays} relays ({self.relay_mode})" if self.relays else ""
        return f"{self.clients} clients x {self.rounds} rounds{behind}"


def train(model: FLModel, site: object) -> FLModel:
    """Stand for the training that is not run."""
    return model


def play_case(case: Case) -> tuple[VirtualRun, float, float]:
    """Play it; return the run and its seconds, by the wall and of the processor."""
    model = {"w": np.zeros(case.nbytes // 4, np.float32)}
    recipe = FedAvgRecipe(
        name="virtual", model=model, num_rounds=case.rounds, min_clients=case.clients, train=train
    )
    setting = VirtualSetting(
        clients=case.clients,
        relays=case.relays,
        relay_mode=case.relay_mode,  # type: ignore[arg-type] # one of argparse's choices
        relay_bytes=CREDIT,
        profile=read_profile(case.network),
        trainer=TrainerModel(Spread(10.0, 30.0)),
        payload="sizes",
        frame_bytes=case.frame_bytes,
        limits=Limits(heartbeat_interval=60.0, link_bytes=CREDIT, process_bytes=4 * CREDIT),
        seed=case.seed,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    run = play_virtual(recipe, setting)
    return run, time.perf_counter() - wall, time.process_time() - cpu


def rows_of(case: Case, run: VirtualRun, wall: float, cpu: float) -> list[Row]:
    """Return the figures of a run that has ended well."""
    run.run.check()
    name, tasks = str(case), case.clients * case.rounds
    rows = [
        Row(name, "wall", wall, "s").against("target, at most", TARGET_S),
        Row(name, "processor", cpu, "s"),
        Row(name, "a client-round, processor", cpu / tasks * 1e3, "ms"),
        Row(name, "frames", run.frames),
        Row(name, "frames a client-round", run.frames / tasks),
        Row(name, "frames a second of the processor", run.frames / cpu),
        Row(name, "peak RSS", peak_rss_mb(), "MB"),
        Row(name, "virtual time", run.seconds, "s"),
        Row(name, "virtual seconds a second", run.seconds / wall),
    ]
    return [*rows, Row(name, f"{TRACE}{run.trace_hash[:16]}", run.history.rounds[-1].arrived)]


def main() -> int:
    """Play one case and print its figures; return 1 if hash seeds change its trace."""
    parser = argparse.ArgumentParser(description="What a virtual client costs.")
    default = Case()
    for name in ("clients", "rounds", "relays", "nbytes", "frame_bytes", "seed"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=getattr(default, name))
    parser.add_argument("--network", default=default.network)
    modes = ["splice", "cache", "reduce"]
    parser.add_argument("--relay-mode", choices=modes, default=default.relay_mode)
    parser.add_argument("--hash-seeds", type=int, nargs="+", metavar="SEED", default=[])
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args(sys.argv[1:]))
    as_json, seeds = given.pop("json"), given.pop("hash_seeds")
    if seeds:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        rows = compared("bench.virtual_clients", flags, seeds)
    else:
        case = Case(**given)
        rows = rows_of(case, *play_case(case))
    Report("virtual_clients", rows).show(as_json=as_json)
    return int(bool(seeds) and not all(row.value for row in rows))


if __name__ == "__main__":
    sys.exit(main())
