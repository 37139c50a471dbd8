"""One case of ``bench.rounds``, in a process of its own: rounds in which nobody trains.

Run as ``python -m bench.empty SETTING``; prints its figures as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flare_async.jobs.events import RunEvent
    from flare_async.jobs.run import Run
    from flare_async.jobs.site import Site
    from flare_async.model import FLModel
    from flare_async.recipes.fedavg import FedAvgRecipe
    from flare_async.sim.env import SimEnv

__all__ = ["Case", "Witness", "train"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is run; ``counting`` puts counting links below the sessions, which costs time.

    A client ``adds`` one to the model, or returns it as it came.
    """

    clients: int
    rounds: int
    nbytes: int
    transport: Literal["memory", "tcp", "unix"] = "memory"
    workers: Literal["inline", "thread", "process"] = "inline"
    counting: bool = False
    adds: bool = False


def train(model: FLModel, site: Site) -> FLModel:
    """Return what came."""
    return model


def add(model: FLModel, site: Site) -> FLModel:
    """Return what came plus one."""
    from flare_async import FLModel

    params: dict[str, Any] = dict(model.params or {})
    return FLModel(params={name: array + 1 for name, array in params.items()})


class Witness:
    """Notes when a run's rounds began, and what had been counted by then."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally
        self.connected = 0.0
        self.began = 0.0
        self.ended = 0.0
        self.seconds: list[float] = []  # of each round; the loop's own clock has milliseconds
        self.counts: list[Counter[str]] = []

    def __call__(self, event: RunEvent) -> None:
        """Observe."""
        match type(event).__name__:
            case "RunStarted":
                self.connected = time.perf_counter()
            case "RoundStarted":
                self.began = time.perf_counter()
                self.counts.append(Counter(self._tally))
            case "RoundFinished":
                self.ended = time.perf_counter()
                self.seconds.append(self.ended - self.began)

    def per_round(self, name: str) -> float:
        """Return the mean count of the rounds between the first and the last beginning."""
        whole = len(self.counts) - 1
        return (self.counts[-1][name] - self.counts[0][name]) / whole if whole > 0 else 0.0


def run_case(case: Case) -> dict[str, float]:
    """Run the case in this process and return its figures."""
    began = time.perf_counter()
    from bench.counting import TALLY, count_frames
    from flare_async.jobs.measure import peak_rss_mb

    witness = Witness(TALLY)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        recipe, env = _made(case, witness, folder)
        imported, imported_mb = time.perf_counter(), peak_rss_mb()
        began_cpu = time.process_time()
        if case.counting:
            count_frames()
        _drive(recipe, env, counted_tasks(TALLY) if case.counting else None)
        ended, used = time.perf_counter(), time.process_time() - began_cpu
    rounds_s = witness.ended - witness.connected
    tasks = case.clients * case.rounds
    return {
        "import_s": imported - began,
        "connect_s": witness.connected - imported,
        "wall_s": ended - imported,
        "cpu_s": used,
        "rounds_s": rounds_s,
        "round_ms": statistics.median(witness.seconds) * 1e3,
        "client_round_us": rounds_s / tasks * 1e6,
        "peak_rss_mb": peak_rss_mb(),
        "import_rss_mb": imported_mb,
        "torch_imported": float("torch" in sys.modules),
        **{name: witness.per_round(name) / case.clients for name in ("frames", "acks", "tasks")},
    }


def _made(case: Case, witness: Witness, folder: str) -> tuple[FedAvgRecipe, SimEnv]:
    import numpy as np

    from flare_async import SimEnv
    from flare_async.recipes import FedAvgRecipe

    recipe = FedAvgRecipe(
        name="empty",
        model={"weights": np.zeros(max(1, case.nbytes // 4), np.float32)},
        num_rounds=case.rounds,
        min_clients=case.clients,
        train=add if case.adds else train,
    )
    env = SimEnv(
        num_clients=case.clients,
        workers=case.workers,
        transport=case.transport,
        workspace_root=folder,
        observer=witness,
    )
    return recipe, env


def _drive(recipe: FedAvgRecipe, env: SimEnv, factory: TaskFactory | None) -> Run:
    from flare_async.jobs.loops import calm_collector, new_loop

    async def drive() -> Run:
        asyncio.get_running_loop().set_task_factory(factory)
        return await recipe.run(env)

    with calm_collector(), asyncio.Runner(loop_factory=new_loop) as runner:  # as ``execute`` does
        return runner.run(drive())


if TYPE_CHECKING:
    TaskFactory = Callable[..., asyncio.Task[Any]]


def counted_tasks(tally: Counter[str]) -> TaskFactory:
    """Return a task factory that counts what it makes."""

    def make(
        loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        tally["tasks"] += 1
        return asyncio.Task(coro, loop=loop, **options)

    return make


def main() -> None:
    """Run the case that the command line names."""
    case = Case(**json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps({**asdict(case), **run_case(case)}) + "\n")


if __name__ == "__main__":
    main()
