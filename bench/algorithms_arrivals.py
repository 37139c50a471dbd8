"""In which order updates arrive without rounds: a draw, played in virtual time.

A task lasts as long as the absolute value of a normal draw says (a half-normal distribution, as
Nguyen et al. 2022 found in production and use in their simulations); a site that is done begins
again at once from the newest version. The result is what ``FedBuffRecipe(replay=...)`` plays, so
that a run depends on its seed only and on nothing that the machine does meanwhile.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Arrivals"]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Who works, how many updates make a version, how many versions there are."""

    sites: int
    buffer: int
    versions: int
    seed: int

    def lines(self) -> str:
        """Return the text of ``versions.jsonl``."""
        rows = enumerate(self.drawn(), 1)
        return "".join(
            json.dumps({"version": number, "updates": parts}) + "\n" for number, parts in rows
        )

    def staleness(self) -> float:
        """Return how many versions an update is old when it is used, on average."""
        ages = [
            number - 1 - int(part["from"])
            for number, parts in enumerate(self.drawn(), 1)
            for part in parts
        ]
        return sum(ages) / len(ages)

    def drawn(self) -> Iterator[list[dict[str, str | int]]]:
        """Yield the updates of each version in the order of arrival."""
        rng = np.random.default_rng(self.seed)
        busy = [(abs(rng.normal()), site, 0, 0) for site in range(self.sites)]
        heapq.heapify(busy)
        waiting: list[dict[str, str | int]] = []
        formed = 0
        while formed < self.versions:
            now, site, task, base = heapq.heappop(busy)
            waiting.append({"site": f"site-{site + 1}", "task": task, "from": base})
            if len(waiting) == self.buffer:
                yield waiting
                waiting = []
                formed += 1
            heapq.heappush(busy, (now + abs(rng.normal()), site, task + 1, formed))
