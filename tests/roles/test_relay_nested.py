"""Relays that add below relays that add: each level passes one update on, and each site counts."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from structlog.testing import capture_logs

from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.sums import Share
from flare_async.transfer.tensors import TensorSet
from tests.faults.world import Site, now
from tests.roles.federation import MODEL, SCHEMES, Trains, expected, settle, values
from tests.roles.handmade import HandMade
from tests.roles.test_relay_reduce import SHARES, offered, play, played, workers
from tests.roles.tree import tree

NESTED = {"r1": "server", "r2": "r1", "r3": "r2"}
PLACED = {"r1": ("a",), "r2": ("c",), "r3": ("b", "e"), "server": ("d",)}
both = pytest.mark.parametrize("scheme", SCHEMES)


def update(step, model=MODEL):
    """Return what a site makes of the model."""
    return TensorSet.from_params(
        {name: array + np.float32(step) for name, array in model.numpy().items()}
    )


def added(order, brought, options=None):
    """Return the sum of sites and of sums, in order: (name, tensors, shares or weight)."""
    with WeightedMean(MODEL, order=order, options=options) as mean:
        mean.group([[one.site for one in how] for _, _, how in brought if isinstance(how, list)])
        for site, tensors, how in brought:
            sums = isinstance(how, list)
            sink = mean.stage_partial(how) if sums else mean.stage(site, how)
            sink.begin(tensors.specs)
            for spec in tensors.specs:
                sink.adopt(spec.name, tensors[spec.name])
            sink.finish()
            list(mean.admitting_partial(how) if sums else mean.admitting(site))
        return mean.partial(), [Share(s, w, ParamsType.FULL) for s, w in mean.statistics.sites]


def site(name):
    """Return a site's own update and weight."""
    step, weight = SHARES[name]
    return name, update(step), weight


@both
def test_every_level_adds_what_is_below_it(sim, scheme):
    """The bits are those of sums of sums, in the order of the sites."""
    found, statistics, _, status = played(sim, NESTED, PLACED, scheme=scheme)
    third, of_third = added(("b", "e"), [site("b"), site("e")])
    second, of_second = added(("b", "c", "e"), [site("c"), ("r3", third, of_third)])
    first, of_first = added(("a", "b", "c", "e"), [site("a"), ("r2", second, of_second)])
    whole, _ = added(tuple(SHARES), [("r1", first, of_first), site("d")])
    assert found == whole.model_digest()
    assert dict(statistics.sites) == {name: weight for name, (_, weight) in SHARES.items()}
    assert status == dict.fromkeys(SHARES, "ok")


@both
def test_an_exact_sum_of_sums_has_the_flat_bits(sim, scheme):
    """Whole numbers do not care how often they are added."""
    exact = MeanOptions(exact=True)
    flat, *_ = played(sim, {}, {"server": tuple(SHARES)}, options=exact, scheme=scheme)
    assert played(sim, NESTED, PLACED, options=exact, scheme=scheme)[0] == flat


def test_every_parent_receives_one_update_for_each_relay_below_it(sim):
    """Counted in bytes at every shelf: a site gives its update once, to the relay next to it."""
    model = TensorSet.from_params({"w": np.ones(250_000, np.float32)})

    async def main():
        async with tree(NESTED, workers(PLACED), mode="reduce") as made:
            sums = [offered(made.relays[name]._reducing._setting.shelf) for name in NESTED]
            updates = {name: offered(made.clients[name].shelf) for name in SHARES}
            await play(made, model=model)
            given = {name: dict(one.served) for name, [one] in updates.items()}
            return [dict(one.served) for [one] in sums], given

    sums, given = sim(main)
    size = model.nbytes
    assert sums == [{"server": size}, {"r1": size}, {"r2": size}]
    parents = {"a": "r1", "c": "r2", "b": "r3", "e": "r3", "d": "server"}
    assert given == {name: {parent: size} for name, parent in parents.items()}


def test_nothing_is_left_of_nested_sums(sim):
    """No offer, no channel but that of the routes, at any level."""

    async def main():
        async with tree(NESTED, workers(PLACED), mode="reduce") as made:
            for number in range(3):
                await play(made, number=number)
            await settle()
            relays = made.relays.values()
            shelves = [one._reducing._setting.shelf for one in relays]
            shelves += [client.shelf for client in made.clients.values()]
            sessions = [made.server.directory.relays["r1"]]
            sessions += [
                one.directory.relays[name] for one in relays for name in one.directory.relays
            ]
            topics = [[c.topic for c in session.channels.values()] for session in sessions]
            return topics, sum(len(shelf._offers) for shelf in shelves)

    assert sim(main) == ([["routes"]] * 3, 0)


def test_a_relay_that_adds_below_one_that_does_not_leaves_the_adding_to_the_server(sim):
    """The server cannot ask it, so its sites come one by one; the bits are the flat ones."""
    flat, *_ = played(sim, {}, {"server": tuple(SHARES)})

    async def main():
        async with tree({"r1": "server"}, {}, mode="splice") as made:
            made.start(made.relay, "r2", "r1", mode="reduce")
            await anyio.sleep(1)
            for name, (step, weight) in SHARES.items():
                made.start(made.site, name, Trains(step, weight=weight), "r2")
            made.cohort.sites = tuple(SHARES)
            await made.server.wait_for(made.cohort.sites, 5)
            return (await play(made))[0]

    assert sim(main) == flat


@pytest.mark.parametrize("exact", [False, True])
def test_f23_a_relay_below_that_dies_with_an_update_kept_costs_the_whole_sum_once(sim, exact):
    """Its sites come back through another one and train again; all others only give again."""
    first, again, slow = Site(1, seconds=2, weight=5.0), Site(1, weight=5.0), Site(2, seconds=50)
    beside, waits = Site(3, seconds=1), Site(4, seconds=60)
    relays = {"r1": "server", "r2": "r1", "r3": "r1"}

    async def main():
        placed = {("r2", "a"): first, ("r2", "b"): slow, ("r3", "c"): beside, ("r1", "d"): waits}
        async with tree(relays, placed, mode="reduce") as made:

            async def die():
                await slow.began.wait()
                await anyio.sleep(10)
                made.network.partition("r2")
                for name, worker in (("a", again), ("b", Site(2))):
                    made.scopes[name].cancel()
                    made.start(made.site, name, worker, "r3")

            made.context.tasks.start_soon(die)
            with capture_logs() as logs:
                _, statistics, model = await play(made, MeanOptions(exact=exact))
            lost = [sorted(entry["sites"]) for entry in logs if entry["event"] == "sum_lost"]
            return dict(statistics.sites), values(model), made.seen.status(), lost, now()

    sites, model, status, lost, took = sim(main)
    assert np.allclose(model, expected((1, 5), (2, 1), (3, 1), (4, 1)), rtol=1e-6)
    assert sites == {"a": 5.0, "b": 1.0, "c": 1.0, "d": 1.0}
    assert status == dict.fromkeys("abcd", "ok")
    assert lost == [["a", "c"]]
    assert (first.finished, again.finished, beside.finished, waits.finished) == (1, 1, 1, 1)
    assert took < 100


def test_a_relay_below_that_refuses_to_add_holds_nobody_up(sim):
    """What it has not kept is not lost: all others are in the sum of the relay above."""

    async def main():
        async with tree({"r1": "server"}, workers({"r1": ("a", "b")}), mode="reduce") as made:
            deaf = HandMade(made, made.at("r1"), "x", deaf=True)
            made.context.tasks.start_soon(deaf.run)
            await made.server.wait_for(["x"], 1)
            made.cohort.sites = ("a", "b", "x")
            _, statistics, model = await play(made)
            return dict(statistics.sites), values(model), deaf.epochs

    sites, model, epochs = sim(main)
    assert sites == {"a": SHARES["a"][1], "b": SHARES["b"][1], "x": 1.0}
    assert np.allclose(model, expected(SHARES["a"], SHARES["b"], (0, 1)), rtol=1e-6)
    assert epochs == [0]


def test_a_silent_relay_below_loses_the_sum_that_it_was_asked_for(sim):
    """It has taken one update and passes nothing on; the others come one by one in the end."""
    limits = Limits(stall_timeout=10.0, max_resends=1)

    async def main():
        async with tree(
            {"r1": "server"}, workers({"r1": ("a",)}), limits=limits, mode="reduce"
        ) as made:
            silent = HandMade(made, made.at("r1"), "x")
            made.context.tasks.start_soon(silent.run)
            await made.server.wait_for(["x"], 1)
            made.cohort.sites = ("a", "x")
            _, statistics, model = await play(made)
            return statistics.sites, values(model), silent.epochs, now()

    sites, model, epochs, took = sim(main)
    assert dict(sites) == {"a": SHARES["a"][1], "x": 1.0}
    assert np.allclose(model, expected(SHARES["a"], (0, 1)), rtol=1e-6)
    assert epochs == [0, 1]
    assert took < 100
