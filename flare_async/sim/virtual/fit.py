"""A network profile, and how long training takes, from the records of a run that has been.

A run's ``history.jsonl`` has for each site and round when it was asked and when its update was
there, how long it trained, and the bytes each way. What is left of its time without the training is
that of the transfer; its bytes divided by that time, a site's median over the rounds, is its
bandwidth. Both directions are in one figure, so they get the same bandwidth. A round trip is not
among the records: it is given, or 0, and then part of the bandwidth. Jitter and loss are not
fitted: they are in the bandwidth as well.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from flare_async.errors import ConfigError, WorkspaceError
from flare_async.limits import Limits
from flare_async.sim.virtual.whatif import percentile
from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread

__all__ = ["Fitted", "fit_network"]

HISTORY: Final = "history.jsonl"
CARRIED: Final = Limits().carried_bytes  # up to here tensors follow their task and their result
TRIPS_OF_PULLS: Final = 3  # of a task: the offer and its pull, the result and its pull, the receipt
LEAST_SECONDS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted, from how many tasks of how many sites; ``training`` are seconds of tasks."""

    profile: Profile
    training: Spread
    sites: int
    tasks: int


def fit_network(folder: Path, *, latency: float = 0.0) -> Fitted:
    """Fit a profile to the run in ``folder``; ``latency`` is the seconds of one direction.

    Raises:
        WorkspaceError: there is no readable history.
        ConfigError: no task of it has moved a model and taken longer than its training and the
            round trips.
    """
    began: set[str] = set()
    rates: defaultdict[str, list[float]] = defaultdict(list)
    training: defaultdict[str, list[float]] = defaultdict(list)
    for site in tasks_of(folder):
        nbytes = number(site, "bytes_down") + number(site, "bytes_up")
        trained = number(site, "train_seconds")
        seconds = number(site, "ended") - number(site, "started") - trained
        name = str(site.get("site"))
        seconds -= 2 * round_trips(site, first=name not in began) * latency
        began.add(name)
        if nbytes and seconds > LEAST_SECONDS:
            rates[name].append(nbytes / seconds)
            training[name].append(trained)
    if not rates:
        problem = "no task has moved a model and taken longer than its training"
        trips = f" and its round trips of {2 * latency:g} s" if latency else ""
        hint = "give half of a ping as latency" if latency else ""
        raise ConfigError("run", str(folder), problem + trips, hint)
    bandwidth = spread_of([median(each) for each in rates.values()], 5)
    line = Line(Spread.constant(latency), bandwidth)
    seconds_of = spread_of([median(each) for each in training.values()], 95)
    tasks = sum(map(len, rates.values()))
    return Fitted(Profile(folder.name, line, line), seconds_of, len(rates), tasks)


def round_trips(task: Mapping[str, object], *, first: bool) -> int:
    """Return how often a task went there and back; a site's ``first`` asks for the layout, too."""
    largest = max(number(task, "bytes_down"), number(task, "bytes_up"))
    return (1 if largest <= CARRIED else TRIPS_OF_PULLS) + first


def tasks_of(folder: Path) -> Iterator[Mapping[str, object]]:
    """Yield the rows of the tasks that went well. Raises WorkspaceError."""
    path = folder / HISTORY
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rounds = [json.loads(line) for line in lines]
    except (OSError, ValueError) as exc:
        raise WorkspaceError("run", str(folder), f"no readable {HISTORY}: {exc}") from exc
    for record in rounds:
        sites = record.get("sites") if isinstance(record, dict) else None
        rows = sites if isinstance(sites, list) else []
        yield from (one for one in rows if isinstance(one, dict) and one.get("status") == "ok")


def number(row: Mapping[str, object], key: str) -> float:
    """Return a number of a row; 0 where it has none."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def spread_of(values: list[float], far: float) -> Spread:
    """Return the spread of values whose twentieth is below the median (5) or above it (95)."""
    middle, edge = median(values), percentile(values, far)
    return Spread(middle, edge) if middle and edge else Spread.constant(middle)
