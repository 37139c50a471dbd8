"""The grid of ``bench.algorithms``: as many points for each algorithm, judged on validation images.

Most algorithms have a number of their own beside the sites' learning rate: four rates times three
of its values. FedAvg has none, so it gets twelve rates over a wider range. The runs have other
seeds, and so other partitions, than those that are reported, and see no image of the test set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

from bench.algorithms_runs import NAMES, Point, play
from bench.algorithms_sites import LocalTraining
from flare_async.errors import FlareError

__all__ = ["COMMAND", "DATA", "GRIDS", "LAST", "LOCAL", "Grid", "Outcome", "searched"]

COMMAND: Final = "python -m bench.algorithms --grid"
DATA: Final = Path(__file__).parent / "data" / "algorithms-grid.json"
LAST: Final = 5  # rounds whose mean accuracy is the score: one round alone is noisy
LOCAL: Final = {
    name: value for name, value in LocalTraining(1.0).config().items() if name != "rate"
}
RATES: Final = (0.1, 0.2, 0.4, 0.8)
FINER_RATES: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def crossed(own: str, values: Sequence[float]) -> list[Point]:
    """Return every rate with every value."""
    return [{"rate": rate, own: value} for rate in RATES for value in values]


GRIDS: Final[Mapping[str, Sequence[Point]]] = dict(
    zip(
        NAMES,
        (
            [{"rate": rate} for rate in FINER_RATES],
            crossed("mu", (0.001, 0.01, 0.1)),
            crossed("server_rate", (0.03, 0.1, 0.3)),
            crossed("server_rate", (1.0, 1.5, 2.0)),
            crossed("server_rate", (0.5, 1.0, 2.0)),
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a point did, as a mean over seeds; one that fails with any of them has no accuracy."""

    point: Point
    accuracy: float
    loss: float | None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """All outcomes, and how they were found."""

    command: str
    rounds: int
    seeds: Sequence[int]
    outcomes: Mapping[str, Sequence[Outcome]]
    local: Mapping[str, float] = field(default_factory=lambda: LOCAL)

    def chosen(self, name: str) -> Point:
        """Return the point with the best validation accuracy; of equals, that with less loss."""
        usable = [one for one in self.outcomes[name] if one.loss is not None]
        return max(usable, key=lambda one: (one.accuracy, -(one.loss or 0.0))).point

    def write(self, path: Path) -> None:
        """Write it, a point a line."""
        chosen = {name: self.chosen(name) for name in self.outcomes}
        head = {
            "command": self.command,
            "rounds": self.rounds,
            "seeds": list(self.seeds),
            "local": dict(self.local),
        }
        lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        lines += [f' "chosen": {json.dumps(chosen)},', ' "outcomes": {']
        blocks = [
            f"  {json.dumps(name)}: [\n"
            + ",\n".join(f"   {json.dumps(asdict(one))}" for one in found)
            + "\n  ]"
            for name, found in self.outcomes.items()
        ]
        path.write_text("\n".join(["{", *lines, ",\n".join(blocks), " }", "}", ""]), "utf-8")

    @classmethod
    def read(cls, path: Path = DATA) -> Grid:
        """Return what was written."""
        found = json.loads(path.read_text("utf-8"))
        outcomes = {
            name: [Outcome(**row) for row in rows] for name, rows in found["outcomes"].items()
        }
        return cls(found["command"], found["rounds"], found["seeds"], outcomes, found["local"])


def searched(names: Sequence[str], rounds: int, seeds: Sequence[int]) -> Iterator[Outcome]:
    """Play every point of those algorithms, in their order."""
    for name in names:
        for point in GRIDS[name]:
            yield outcome_of(name, point, rounds, seeds)


def outcome_of(name: str, point: Point, rounds: int, seeds: Sequence[int]) -> Outcome:
    """Play one point with every seed."""
    try:
        curves = [play(name, point, rounds=rounds, seed=seed, test=False) for seed in seeds]
    except FlareError as exc:
        return Outcome(point, 0.0, None, type(exc).__name__)
    accuracy = fmean(fmean(curve.accuracy[-LAST:]) for curve in curves)
    loss = fmean(fmean(curve.loss[-LAST:]) for curve in curves)
    return Outcome(point, round(accuracy, 4), round(loss, 4))
