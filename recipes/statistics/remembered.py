"""What a site remembers for the length of a run, so that asking again tells nothing more.

Noise that is drawn anew would be averaged away, and histograms of ever smaller ranges would find
every value: a step has one plan, and a cell one noise.
"""

from __future__ import annotations

import random
from typing import Final

from flare_async.errors import TensorFormatError
from flare_async.jobs.site import Site
from flare_async.net.rng import SeededRandom, SystemRandom
from flare_async.recipes.statistics.plan import Cell, Plan

__all__ = ["asked_before", "noise"]

NOISE: Final = "statistics_noise"
PLANS: Final = "statistics_plans"


def asked_before(site: Site, plan: Plan) -> Plan:
    """Return the plan when the site has been asked for its step never before, or for the same.

    Raises:
        TensorFormatError: it has been asked for something else.
    """
    if kept(site, PLANS).setdefault(plan.step, plan) != plan:
        problem = "its range, mean or features were others"
        raise TensorFormatError(f"step {plan.step} was asked for before in this run: {problem}")
    return plan


def noise(site: Site, cell: Cell, *, seeded: bool) -> random.Random:
    """Return a generator that draws the same for a cell whenever it is asked again.

    Its start is the system's entropy unless the recipe wants a simulation that can be repeated: a
    server that knows the seed of the run must not know the noise.

    Raises:
        TensorFormatError: ``site.state`` was tampered with.
    """
    name = f"noise of {site.name} {cell.dataset} {cell.feature}"
    if seeded:
        return SeededRandom(site.seed).once(name)
    seed = kept(site, NOISE).setdefault(cell, SystemRandom().token(32))
    if not isinstance(seed, bytes):
        raise TensorFormatError(f"site.state[{NOISE!r}] was replaced")
    return SeededRandom(int.from_bytes(seed, "big")).once(name)


def kept(site: Site, key: str) -> dict[object, object]:
    """Return what a site has kept under a key. Raises TensorFormatError."""
    known = site.state.setdefault(key, {})
    if not isinstance(known, dict):
        raise TensorFormatError(f"site.state[{key!r}] was replaced")
    return known
