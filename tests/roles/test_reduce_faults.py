"""F23: relays that add die, come back, or lie; nothing counts twice and nothing is left."""

from __future__ import annotations

import contextlib

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    Added,
    Contributor,
    Drop,
    Keep,
    PartialReady,
    PartialTask,
    Pass,
    Take,
    Taken,
    Underway,
    Untaken,
)
from flare_async.transfer.mean import MeanOptions
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.pull import TensorRef
from tests.faults.world import Site, now
from tests.roles.federation import Trains, expected, settle, values
from tests.roles.handmade import HandMade
from tests.roles.test_relay_reduce import play
from tests.roles.tree import ONE, tree

TWO = {"r1": "server", "r2": "server"}
REF = TensorRef("site", "00" * 16, 0, b"\0" * 32, 12)


def homeless(options=None):
    """Return a round in which r1 dies with one update kept; both of its sites go to r2."""
    first, again = Site(1, seconds=2, weight=5.0), Site(1, seconds=2, weight=5.0)
    slow, other = Site(2, seconds=50), Site(2, seconds=1)

    async def main():
        placed = {("r1", "a"): first, ("r1", "b"): slow, ("r2", "c"): Site(3, seconds=1)}
        async with tree(TWO, placed, mode="reduce") as made:

            async def die():
                await slow.began.wait()
                await anyio.sleep(10)
                made.network.partition("r1")
                for site, worker in (("a", again), ("b", other)):
                    made.scopes[site].cancel()
                    made.start(made.site, site, worker, "r2")

            made.context.tasks.start_soon(die)
            digest, statistics, model = await play(made, options)
            status, took = made.seen.status(), now()
            await settle()
            return digest, statistics, values(model), status, took

    return main, (first, again, slow, other)


def test_f23_sites_of_a_dead_relay_that_kept_an_update_train_again_and_count_once(sim):
    """The partial sum is gone with its epoch; the weights are those of three sites."""
    main, sites = homeless()
    _, statistics, model, status, took = sim(main)
    assert np.allclose(model, expected((1, 5), (2, 1), (3, 1)), rtol=1e-6)
    assert dict(statistics.sites) == {"a": 5.0, "b": 1.0, "c": 1.0}
    assert status == dict.fromkeys("abc", "ok")
    assert [site.finished for site in sites] == [1, 1, 0, 1]
    assert took < 60


def test_f23_an_exact_round_has_the_same_bits_whoever_died(sim):
    """The sites have changed their relay; only the whole numbers do not mind."""
    exact = MeanOptions(exact=True)
    main, _ = homeless(exact)
    digest, *_ = sim(main)

    async def calm():
        placed = {("r1", "a"): Trains(1, weight=5.0), ("r1", "b"): Trains(2)}
        async with tree(TWO, {**placed, ("r2", "c"): Trains(3)}, mode="reduce") as made:
            return (await play(made, exact))[0]

    assert digest == sim(calm)


def test_a_relay_that_is_cut_off_for_a_while_goes_on_with_what_it_kept(sim):
    """Its session resumes: nobody trains twice, and the sum comes."""
    sites = {("r1", "a"): Site(1, seconds=1), ("r1", "b"): Site(3, seconds=20)}

    async def main():
        async with tree(ONE, sites, mode="reduce") as made:

            async def cut():
                await anyio.sleep(8)
                made.network.partition("r1", "server")
                await anyio.sleep(40)
                made.network.heal()

            made.context.tasks.start_soon(cut)
            _, _, model = await play(made)
            return values(model)

    assert sim(main) == expected((1, 1), (3, 1))
    assert [site.finished for site in sites.values()] == [1, 1]


def test_a_site_that_leaves_after_its_update_was_kept_is_in_the_sum(sim):
    """As at a server: what was admitted does not need its sender any more."""
    slow = Trains(3, seconds=60)

    async def main():
        async with tree(ONE, {("r1", "a"): Trains(1), ("r1", "b"): slow}, mode="reduce") as made:

            async def leave():
                await slow.began.wait()
                await anyio.sleep(10)
                made.scopes["a"].cancel()

            made.context.tasks.start_soon(leave)
            _, statistics, model = await play(made)
            return values(model), dict(statistics.sites)

    assert sim(main) == (expected((1, 1), (3, 1)), {"a": 1.0, "b": 1.0})


def test_a_round_that_is_given_up_leaves_nothing_at_its_relays(sim):
    """The sum, its model and its channel go with the round."""

    async def main():
        slow = Trains(1, seconds=500)
        async with tree(ONE, {("r1", "a"): Trains(), ("r1", "b"): slow}, mode="reduce") as made:
            with anyio.move_on_after(30):
                await play(made)
            await settle(200)
            session = made.server.directory.relays["r1"]
            shelves = made.relays["r1"]._reducing._setting.shelf._offers, made.server.shelf._offers
            return [c.topic for c in session.channels.values()], shelves, slow.cancelled

    assert sim(main) == (["routes"], ({}, {}), 1)


def test_a_sum_with_a_site_that_is_committed_elsewhere_is_refused_whole_and_built_anew(sim):
    """Nothing of it counts; the site's update goes into another sum, without training again."""

    async def main():
        async with tree({}, {("server", "b"): Trains(3)}) as made:

            def lie(messages, task, mine):
                more = [] if task.epoch else [Contributor("b", 0, 1.0)]
                messages.post(liar.ready(task, [*mine, *more]))

            liar = HandMade(made, made.address, "a", lie)
            made.context.tasks.start_soon(liar.run)
            await made.server.wait_for(["a", "b"], 2)
            made.cohort.sites = ("b", "a")
            with capture_logs() as logs:
                _, statistics, model = await play(made)
            lost = [log for log in logs if log["event"] == "sum_lost"]
            return values(model), statistics.sites, liar.epochs, liar.tasks, lost

    model, sites, epochs, tasks, [lost] = sim(main)
    assert (lost["relay"], lost["epoch"], lost["sites"]) == ("r9", 0, ("a",))
    assert lost["problem"].endswith("assigned elsewhere: b")
    assert model == expected((3, 1), (0, 1))
    assert sites == (("b", 1.0), ("a", 1.0))
    assert (epochs, tasks) == ([0, 1], 1)


MESSAGES = (
    Take("a", 1, 2.5, "FULL", REF),
    Taken("a"),
    Untaken("a", "gone", "it left"),
    Keep("a"),
    Drop("a"),
    Pass(),
    PartialReady(3, REF, (Contributor("a", 0, 1.0), Contributor("b", 2, 0.5))),
    Added((Contributor("a", 0, 1.0),)),
    Underway(),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_said_of_a_sum_survives_its_way(message):
    """What was encoded is what is decoded."""
    assert PARTIAL_SCHEMA.decode(PARTIAL_SCHEMA.encode(message), Limits()) == message


@given(
    st.lists(st.text(max_size=20), max_size=9), st.floats(0.1, 9), st.none() | st.integers(0, 60)
)
def test_a_sums_task_survives_its_way(sites, most, bits):
    """With all of its rules."""
    task = PartialTask("job", 1, 2, tuple(sites), REF, SumRules(None, "^x", most, bits, 7))
    assert PARTIAL_TASK_SCHEMA.decode(PARTIAL_TASK_SCHEMA.encode(task), Limits()) == task


@given(st.binary(max_size=80))
def test_garbage_about_a_sum_is_a_protocol_error(data):
    """Both schemas are closed."""
    for schema in (PARTIAL_SCHEMA, PARTIAL_TASK_SCHEMA):
        with contextlib.suppress(RemoteProtocolError):
            schema.decode(data, Limits())
