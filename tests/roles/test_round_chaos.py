"""Rounds under every mixture of good, late, failing and vanishing sites, in any schedule."""

from __future__ import annotations

import anyio
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import QuorumNotReached, TrainingFailed
from flare_async.testing.loop import run_sim
from tests.roles.federation import SCHEMES, Trains, crash, expected, federation, settle, values

DEADLINE = 60
BEHAVIOURS = ("good", "raises", "diverges", "late", "cut")
behaviours = st.lists(
    st.tuples(st.sampled_from(BEHAVIOURS), st.floats(0, 2 * DEADLINE)), min_size=1, max_size=6
)
STATUS = {
    "good": {"ok", "late"},
    "raises": {"failed", "late"},
    "diverges": {"refused", "late"},
    "late": {"late"},
    "cut": {"failed", "late"},
}


def worker_of(name, index, behaviour, seconds):
    """Return a site that behaves so after some time."""
    match behaviour:
        case "raises":
            return Trains(seconds=seconds, error=TrainingFailed(name, "no data"))
        case "diverges":
            return Trains(np.inf, seconds=seconds)
        case "late":
            return Trains(seconds=10 * DEADLINE)
    return Trains(index + 1, seconds=seconds, weight=index + 0.5)


async def cut_at(made, name, seconds):
    """Break a site's connection after some time."""
    await anyio.sleep(seconds)
    crash(made, name)


async def play(scheme, seed, sites, quorum):
    """Run one round; return its model (or None), the records and what is left on the shelves."""
    workers = {f"s{i}": worker_of(f"s{i}", i, *how) for i, how in enumerate(sites)}
    async with federation(workers, scheme=scheme, seed=seed) as made:
        for name, (behaviour, seconds) in zip(workers, sites, strict=True):
            if behaviour == "cut":
                workers[name].seconds = 10 * DEADLINE
                made.context.tasks.start_soon(cut_at, made, name, seconds / 4)
        try:
            _, model = await made.play(quorum=quorum, deadline=DEADLINE)
        except QuorumNotReached as error:
            model = error
        await settle()
        shelves = [made.server.shelf, *(client.shelf for client in made.clients.values())]
        return model, made.seen.status(), workers, sum(len(shelf._offers) for shelf in shelves)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SCHEMES), st.integers(0, 10**6), behaviours, st.integers(1, 6))
def test_a_round_is_the_mean_of_the_sites_that_it_names(scheme, seed, sites, quorum):
    """S1, S2, S6, S8, S11: each site has one end, the sum its own, and nothing is left."""
    quorum = min(quorum, len(sites))
    model, status, workers, left = run_sim(lambda: play(scheme, seed, sites, quorum), seed=seed)
    good = [name for name, how in status.items() if how == "ok"]
    assert sorted(status) == sorted(workers)
    assert left == 0
    for name, (behaviour, _) in zip(workers, sites, strict=True):
        assert status[name] in STATUS[behaviour]
    if isinstance(model, QuorumNotReached):
        assert len(good) == model.arrived < quorum
        assert set(model.failures) == set(workers) - set(good)
    else:
        assert len(good) >= quorum
        in_order = [workers[name] for name in workers if name in good]
        assert values(model) == expected(*((site.step, site.weight) for site in in_order))
