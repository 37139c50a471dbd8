"""Rounds of sums under every mixture of sites that fail or move and relays that are cut off."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import QuorumNotReached, TrainingFailed
from flare_async.testing.loop import run_sim
from flare_async.transfer.mean import MeanOptions
from tests.roles.federation import MODEL, Trains, settle
from tests.roles.test_relay_reduce import play
from tests.roles.tree import tree

DEADLINE = 400
TREES = ({"r1": "server", "r2": "server"}, {"r1": "server", "r2": "r1"})
behaviours = st.tuples(
    st.sampled_from(["good", "raises", "diverges", "late", "moves"]),
    st.floats(0, 30),
    st.sampled_from(["r1", "r2", "server"]),
)
cuts = st.tuples(st.sampled_from(["r1", "r2"]), st.floats(0, 30), st.sampled_from([2, 30, 10**4]))


def worker_of(name, index, behaviour, seconds):
    """Return a site that behaves so after some time."""
    if behaviour == "raises":
        return Trains(seconds=seconds, error=TrainingFailed(name, "no data"))
    step = np.nan if behaviour == "diverges" else index + 1
    seconds = 10 * DEADLINE if behaviour == "late" else seconds
    return Trains(step, seconds=seconds, weight=index + 0.5)


async def disturb(made, relays, sites, cut):
    """Move the sites that move, and cut a relay off, each when it is time."""
    async with anyio.create_task_group() as tasks:

        async def move(name, index, seconds):
            await anyio.sleep(seconds / 2)
            made.scopes[name].cancel()
            made.start(made.site, name, worker_of(name, index, "good", seconds), "r2")

        async def part(name, seconds, length):
            await anyio.sleep(seconds)
            made.network.partition(name, relays[name])
            await anyio.sleep(length)
            made.network.heal()

        for index, (behaviour, seconds, _) in enumerate(sites):
            if behaviour == "moves":
                tasks.start_soon(move, f"s{index}", index, seconds)
        if cut is not None:
            tasks.start_soon(part, *cut)


async def scene(relays, sites, cut, quorum, options):
    """Run one round; return its model or error, the sites in it, their ends, and what is left."""
    placed = {
        (parent, f"s{index}"): worker_of(f"s{index}", index, behaviour, seconds)
        for index, (behaviour, seconds, parent) in enumerate(sites)
    }
    async with tree(relays, placed, mode="reduce") as made:
        made.context.tasks.start_soon(disturb, made, relays, sites, cut)
        inside = ()
        try:
            _, statistics, model = await play(made, options, quorum=quorum, deadline=DEADLINE)
            inside = statistics.sites
        except QuorumNotReached as error:
            model = error
        made.network.heal()
        await settle(1500)
        shelves = [made.server.shelf, *(client.shelf for client in made.clients.values())]
        shelves += [relay._reducing._setting.shelf for relay in made.relays.values()]
        return model, inside, made.seen.status(), sum(len(shelf._offers) for shelf in shelves)


@pytest.mark.parametrize("relays", TREES, ids=["beside", "below"])
@pytest.mark.parametrize("exact", [False, True])
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(behaviours, min_size=1, max_size=5), st.none() | cuts)
def test_a_round_of_sums_is_the_mean_of_the_sites_that_it_names(exact, relays, seed, sites, cut):
    """S1 with weights, S2, S6: each site has one end, the sum its own, and nothing is left."""
    quorum = max(1, len(sites) // 2)
    options = MeanOptions(exact=exact)
    model, inside, status, left = run_sim(
        lambda: scene(relays, sites, cut, quorum, options), seed=seed
    )
    good = {name for name, how in status.items() if how == "ok"}
    assert sorted(status) == sorted(f"s{index}" for index in range(len(sites)))
    assert left == 0
    if isinstance(model, QuorumNotReached):
        assert len(good) == model.arrived < quorum
        return
    assert {name for name, _ in inside} == good
    assert len(inside) == len(good) >= quorum
    steps = {name: int(name[1:]) + 1 for name in good}
    assert dict(inside) == {name: step - 0.5 for name, step in steps.items()}
    total = sum(weight for _, weight in inside)
    mean = sum(steps[name] * weight for name, weight in inside) / total
    assert np.allclose(model.numpy()["w"], MODEL.numpy()["w"] + mean, rtol=1e-6)
