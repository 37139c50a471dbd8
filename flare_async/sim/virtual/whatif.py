"""What a job would cost on a network: computed by playing it in virtual time, sizes only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.history import RoundRecord
from flare_async.jobs.recipe import Recipe
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.sim.virtual.play import play_virtual
from flare_async.sim.virtual.run import Held, VirtualRun
from flare_async.sim.virtual.setting import VirtualSetting

__all__ = ["Arrival", "Straggler", "WhatIf", "percentile", "sites_of", "what_if"]

QUORUMS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
SLOWEST: Final = 10


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a share of the sites' updates was there: seconds since the round began, and how many."""

    quorum: float
    updates: int
    seconds: float

    @property
    def rate(self) -> float:
        """Updates a second, were the round closed then."""
        return self.updates / self.seconds if self.seconds > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Straggler:
    """A slow site: mean seconds until its update was there, and of these in training."""

    site: str
    seconds: float
    training: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What one setting gives; seconds are virtual, bytes are those of all rounds together.

    ``site_seconds`` are those of each update that was taken, from the beginning of its round.
    ``arrivals`` say, for each quorum, when as many were there (the median of the rounds): closing
    a round earlier changes nothing of what came before. ``best_quorum`` has the most updates a
    second.
    """

    clients: int
    relays: int
    round_seconds: tuple[float, ...]
    site_seconds: tuple[float, ...]
    arrivals: tuple[Arrival, ...]
    stragglers: tuple[Straggler, ...]
    updates: int
    missing: int
    egress: int
    ingress: int
    server: Held
    relay: Held  # the most of any relay
    model_bytes: int
    seconds: float
    frames: int
    trace_hash: str

    @property
    def best_quorum(self) -> Arrival | None:
        """Return the quorum with the most updates a second; None where nothing came."""
        return max(self.arrivals, key=lambda arrival: arrival.rate, default=None)


def what_if(recipe: Recipe, setting: VirtualSetting) -> WhatIf:
    """Play the recipe's rounds with sizes only and return what they would cost.

    Raises:
        ConfigError: recipe and setting do not fit, or nothing is trained; ``payload`` is not
            "sizes".
        RunFailed: the run would fail, for instance for want of a quorum.
        SimDeadlock: nothing could happen any more.
    """
    if setting.payload != "sizes":
        raise ConfigError("payload", setting.payload, 'what_if needs payload="sizes"')
    played = play_virtual(recipe, setting)
    tasks = {record.task for record in played.history.rounds}
    if tasks and "train" not in tasks:
        raise ConfigError("job", recipe.name, "has no rounds of training, which could be told of")
    played.run.check()
    return figures_of(played, setting)


def figures_of(played: VirtualRun, setting: VirtualSetting) -> WhatIf:
    """Return the figures of a run that has ended."""
    rounds = [record for record in played.history.rounds if record.task == "train"]
    taken = [one for record in rounds for one in took(record)]
    server = played.hosts["server"]
    relays = [held for name, held in played.held.items() if name != "server"]
    model = played.model
    return WhatIf(
        clients=setting.clients,
        relays=len(relays),
        round_seconds=tuple(record.seconds for record in rounds),
        site_seconds=tuple(taken),
        arrivals=arrivals_of(rounds),
        stragglers=slowest(rounds),
        updates=len(taken),
        missing=sum(len(record.sites) for record in rounds) - len(taken),
        egress=server.bytes_out,
        ingress=server.bytes_in,
        server=played.held["server"],
        relay=max(relays, key=lambda held: held.memory, default=Held()),
        model_bytes=0 if model is None else model.nbytes,
        seconds=played.seconds,
        frames=played.frames,
        trace_hash=played.trace_hash,
    )


def took(record: RoundRecord) -> list[float]:
    """Return how long each update took that a round has taken, the fastest first."""
    return sorted(part(record, one) for one in record.sites if one.status is SiteStatus.OK)


def part(record: RoundRecord, one: SiteRecord) -> float:
    """Return the seconds of a site's part: of the round, or what it began before a version did."""
    return one.ended - min(record.started, one.started)


def arrivals_of(rounds: Sequence[RoundRecord]) -> tuple[Arrival, ...]:
    """Return when each quorum of the sites was there, as far as so many ever came.

    Where versions are formed without rounds, there is none to be closed.
    """
    if any(one.started < record.started for record in rounds for one in record.sites):
        return ()
    found = []
    for quorum in QUORUMS:
        times, counts = [], []
        for record in rounds:
            needed, seconds = sites_of(quorum, len(record.sites)), took(record)
            if 0 < needed <= len(seconds):
                times.append(seconds[needed - 1])
                counts.append(needed)
        if times and len(times) == len(rounds):
            found.append(Arrival(quorum, counts[0], percentile(times, 50)))
    return tuple(found)


def sites_of(share: float, count: int) -> int:
    """Return how many sites a share is at least; 55 % of 100 are 55, and not one more."""
    return math.ceil(round(share * count, 6))


def slowest(rounds: Sequence[RoundRecord]) -> tuple[Straggler, ...]:
    """Return the sites whose updates took longest, on average."""
    seconds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in rounds:
        for one in record.sites:
            if one.status is SiteStatus.OK:
                seconds[one.site].append((part(record, one), one.train_seconds))
    means = [
        Straggler(site, *(sum(part) / len(part) for part in zip(*pairs, strict=True)))
        for site, pairs in seconds.items()
    ]
    return tuple(sorted(means, key=lambda one: (-one.seconds, one.site))[:SLOWEST])


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile, between neighbours in proportion; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    at = (len(ordered) - 1) * share / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
