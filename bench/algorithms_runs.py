"""The runs of ``bench.algorithms``: a point of a grid made into a recipe, played, and scored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.algorithms_arrivals import Arrivals
from bench.algorithms_sites import (
    ALPHA,
    LocalTraining,
    VersionScores,
    train,
    train_controlled,
    train_proximal,
)
from flare_async import SimEnv
from flare_async.jobs.recipe import Recipe
from flare_async.recipes import (
    FedAvgRecipe,
    FedBuffRecipe,
    FedOptRecipe,
    FedProxRecipe,
    ScaffoldRecipe,
)
from flare_async.sim.dataset import Part, pooled, read_test_set, split_digits
from flare_async.sim.digits import network

__all__ = ["BUFFER", "NAMES", "SITES", "Curves", "Point", "play"]

SITES: Final = 10
BUFFER: Final = 5  # differences that make a version of FedBuff's: two versions a round's work
NAMES: Final = ("FedAvg", "FedProx", "FedAdam", "SCAFFOLD", "FedBuff")

Point = Mapping[str, float]  # "rate", and the algorithm's own hyper-parameter if it has one


@dataclass(frozen=True, slots=True)
class Curves:
    """Accuracy and loss of the model after each round of updates, round 0 being the first model."""

    accuracy: list[float]
    loss: list[float]


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what a recipe of any algorithm is made of."""

    point: Point
    rounds: int
    seed: int
    scores: VersionScores
    folder: Path

    def common(self, rounds: int | None = None) -> dict[str, Any]:
        """Return the arguments that all recipes take."""
        return {
            "model": network(self.seed),
            "evaluate": self.scores.evaluate,
            "min_clients": SITES,
            "num_rounds": rounds or self.rounds,
            "train_config": LocalTraining(self.point["rate"]).config(),
        }


def fedavg(job: Job) -> Recipe:
    """McMahan et al. 2017; a point with a server's rate, which no grid has, makes it FedOpt."""
    if "server_rate" in job.point:
        sgd = {"class_path": "sgd", "args": {"lr": job.point["server_rate"]}}
        return FedOptRecipe(train=train, optimizer_args=sgd, **job.common())
    return FedAvgRecipe(train=train, **job.common())


def fedprox(job: Job) -> Recipe:
    """Li et al. 2020."""
    return FedProxRecipe(train=train_proximal, mu=job.point["mu"], **job.common())


def fedadam(job: Job) -> Recipe:
    """Reddi et al. 2021."""
    adam = {"class_path": "adam", "args": {"lr": job.point["server_rate"]}}
    return FedOptRecipe(train=train, optimizer_args=adam, **job.common())


def scaffold(job: Job) -> Recipe:
    """Karimireddy et al. 2020."""
    rate = job.point["server_rate"]
    return ScaffoldRecipe(train=train_controlled, server_lr=rate, **job.common())


def fedbuff(job: Job) -> Recipe:
    """Nguyen et al. 2022."""
    versions = job.rounds * SITES // BUFFER
    replay = job.folder / "arrivals.jsonl"
    replay.write_text(Arrivals(SITES, BUFFER, versions, job.seed).lines(), encoding="utf-8")
    return FedBuffRecipe(
        train=train,
        buffer_size=BUFFER,
        global_lr=job.point["server_rate"],
        replay=replay,
        **job.common(versions),
    )


MAKERS: Final[Mapping[str, Callable[[Job], Recipe]]] = dict(
    zip(NAMES, (fedavg, fedprox, fedadam, scaffold, fedbuff), strict=True)
)


def play(name: str, point: Point, *, rounds: int, seed: int, test: bool) -> Curves:
    """Run an algorithm and return how its models did on the test set, or on validation images.

    Raises:
        FlareError: the run failed.
    """
    sites = split_digits(SITES, ALPHA, seed)
    part: Part = read_test_set() if test else pooled(sites).validation
    scores = VersionScores(part)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        recipe = MAKERS[name](Job(point, rounds, seed, scores, Path(folder)))
        env = SimEnv(num_clients=SITES, workers="inline", seed=seed, workspace_root=folder)
        recipe.execute(env)
    step = SITES // BUFFER if name == "FedBuff" else 1
    versions = range(0, rounds * step + 1, step)
    return Curves(scores.curve("accuracy", versions), scores.curve("loss", versions))
