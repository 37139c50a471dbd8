"""Nobody behind a relay waits for another one, and no sum holds a round up for ever."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.errors import AckStalled, ChannelReset, OfferGone, OfferNotFound, StartFailed
from flare_async.jobs.repull import Repull
from flare_async.limits import KIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.messages import Messages
from flare_async.roles.partial_messages import Trouble, Underway
from flare_async.roles.places import Places
from flare_async.roles.relay_sum import untaken
from flare_async.roles.round import RoundTask
from flare_async.roles.start_messages import START_SCHEMA, START_TOPIC, Acknowledged, JobNotice
from flare_async.roles.startup import start_sites
from flare_async.testing import Bandwidth
from flare_async.transfer.repull import RepulledMean
from tests.faults.world import Site, model_of, now
from tests.roles.federation import MODEL, Trains, expected, values
from tests.roles.handmade import HandMade
from tests.roles.test_relay_faults import play as play_model
from tests.roles.test_relay_reduce import play, workers
from tests.roles.tree import ONE, joined, tree


def test_a_place_that_is_held_for_long_is_given_up(sim):
    """Two that never end keep the others waiting for a while only, and those go one by one."""

    async def main():
        places, at = Places(2, 5.0, LoopClock()), []

        async def work(seconds):
            async with places.one():
                at.append(now())
                await anyio.sleep(seconds)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, 100)
            tasks.start_soon(work, 100)
            await anyio.sleep(1)
            for _ in range(4):
                tasks.start_soon(work, 1)
        return at, places._free._value

    assert sim(main) == ([0, 0, 5, 5, 6, 6], 2)


def test_f01_two_slow_sites_hold_up_no_other_below_a_relay_that_adds(sim):
    """Their updates trickle in first; all others are in the sum that the deadline gathers."""
    slow = (Bandwidth(1500.0, site="s0"), Bandwidth(1500.0, site="s1"))
    placed = {("r1", f"s{n}"): Trains(n, seconds=47 if n > 1 else 0) for n in range(8)}

    async def main():
        async with tree(ONE, placed, network={"faults": slow}, mode="reduce") as made:
            await play_model(made, model_of(64 * KIB), quorum=6, deadline=80.0)
            return made.seen.status(), now()

    status, took = sim(main)
    assert {site for site, how in status.items() if how == "late"} == {"s0", "s1"}
    assert list(status.values()).count("ok") == 6
    assert took < 90


def test_f05_a_sum_that_trickles_ends_with_the_rounds_overtime(sim):
    """The relay says that it moves, for ever; its site is late, and the quorum has the round."""

    def say(messages, task, mine):
        async def again():
            while messages.channel.is_open:
                messages.post(Underway())
                await anyio.sleep(3)

        made.context.tasks.start_soon(again)

    async def main():
        nonlocal made
        async with tree({}, {("server", "b"): Trains(3)}) as made:
            slow = HandMade(made, made.address, "a", say)
            made.context.tasks.start_soon(slow.run)
            await made.server.wait_for(["a", "b"], 2)
            made.cohort.sites = ("a", "b")
            began = now()
            with capture_logs() as logs:
                _, statistics, _ = await play(made, quorum=1, deadline=100.0)
            lost = [log["problem"] for log in logs if log["event"] == "sum_lost"]
            return statistics.sites, made.seen.status(), now() - began, lost

    made = None
    sites, status, took, lost = sim(main)
    assert (sites, status["a"], lost) == ((("b", 1.0),), "late", ["its sum did not come in time"])
    assert 100 <= took <= 100 + 60 + 1


def test_a_relay_that_is_long_at_its_sum_says_so_and_is_waited_for(sim):
    """Silence is what loses a sum: one that takes three times the patience comes."""
    limits = Limits(stall_timeout=10.0)

    def say(messages, task, mine):
        async def later():
            for _ in range(10):
                await anyio.sleep(3)
                messages.post(Underway())
            messages.post(handmade.ready(task, mine))

        handmade.made.context.tasks.start_soon(later)

    async def main():
        nonlocal handmade
        async with tree({}, {}, limits=limits) as made:
            handmade = HandMade(made, made.address, "a", say)
            made.context.tasks.start_soon(handmade.run)
            await made.server.wait_for(["a"], 1)
            made.cohort.sites = ("a",)
            _, _, model = await play(made)
            return values(model), handmade.epochs

    handmade = None
    assert sim(main) == (expected((0, 1)), [0])


def test_a_site_that_was_given_up_is_not_kept_by_a_word_that_was_on_its_way(sim):
    """Its lease is over before the relay says that it has the update."""

    async def main():
        async with tree({}, {("server", "b"): Trains(3, seconds=30)}) as made:
            late = HandMade(made, made.address, "a", seconds=10)
            made.context.tasks.start_soon(late.run)
            await made.server.wait_for(["a", "b"], 2)
            made.cohort.sites = ("a", "b")

            async def give_up():
                while not late.heard:
                    await anyio.sleep(0.1)
                [offer] = made.server.shelf._offers.values()
                offer.watchers["a"](AckStalled("a", "pull", 0, 0, 9.0))

            made.context.tasks.start_soon(give_up)
            _, statistics, _ = await play(made, quorum=1)
            return [type(one).__name__ for one in late.heard], statistics.sites, made.seen.status()

    heard, sites, status = sim(main)
    assert heard == ["Take", "Drop"]
    assert (sites, status) == ((("b", 1.0),), {"a": "failed", "b": "ok"})


@pytest.mark.parametrize("error", [OfferGone("x"), OfferNotFound("x")], ids=lambda e: e.code)
def test_a_site_that_is_back_and_has_forgotten_its_update_is_gone(error):
    """It is asked again, as below a server; it has not failed."""
    assert untaken("a", error).trouble == Trouble.GONE


def test_a_site_that_comes_back_before_its_update_is_taken_is_asked_again(sim):
    """The relay finds another session without the offer; the site trains a second time."""
    first, again = Site(1), Site(1)

    async def main():
        placed = {("r1", "a"): first, ("r1", "b"): Trains(3, seconds=20)}
        async with tree(ONE, placed, mode="reduce") as made:
            downloader = made.relays["r1"].context.downloader

            async def swap(*args, **options):
                if not again.tasks and args[0].peer == "a":
                    made.start(made.site, "a", again, "r1")
                    await anyio.sleep(5)
                    args = (made.relays["r1"].sites["a"], *args[1:])
                return await fetch(*args, **options)

            fetch, downloader.fetch = downloader.fetch, swap
            _, statistics, model = await play(made)
            return dict(statistics.sites), values(model), made.seen.status()

    sites, model, status = sim(main)
    assert (sites, model) == ({"a": 1.0, "b": 1.0}, expected((1, 1), (3, 1)))
    assert status == {"a": "ok", "b": "ok"}
    assert again.finished == 1


def test_a_relay_that_comes_during_a_round_reads_its_model_for_its_sites(sim):
    """A site that moved behind it gets the task again, and can pull what it needs."""
    moved = Trains(5)

    async def main():
        async with tree(ONE, {("r1", "a"): Trains(1, seconds=900), ("r1", "b"): Trains(3)}) as made:

            async def move():
                await anyio.sleep(20)
                made.start(made.relay, "r2", "server")
                await anyio.sleep(1)
                made.start(made.site, "a", moved, "r2")

            made.context.tasks.start_soon(move)
            _, model = await made.play()
            return values(model), made.seen.status(), made.server.sites["a"].relays

    model, status, way = sim(main)
    assert (model, way) == (expected((5, 1), (3, 1)), ("r2",))
    assert status == {"a": "ok", "b": "ok"}


def test_stalls_of_other_days_are_forgiven(sim):
    """A site that stalls in many rounds, and takes everything in the end, keeps its tasks."""

    async def main():
        async with tree(ONE, {("r1", "a"): Trains(1)}) as made:
            downward = made.relays["r1"]._downward
            for number in range(8):
                downward.stalled("a", AckStalled("a", "pull", 0, 0, 9.0))
                await made.play(number)
            return {number: r.status for (number, _), r in made.seen.records.items()}, downward

    ends, downward = sim(main)
    assert set(ends.values()) == {"ok"}
    assert (dict(downward._stalls), downward._tasks) == ({}, {})


def test_sites_that_had_begun_are_told_that_the_job_is_off(sim):
    """One acknowledges nothing in the second phase, and too few are left."""
    told = []

    async def half(made, name):
        async with joined(made, name, made.at("r1")) as session:
            async for channel in session:
                Messages(channel, START_SCHEMA).post(Acknowledged())

    async def begins(made, name):
        async with joined(made, name, made.at("r1")) as session:
            async for channel in session:
                assert channel.topic == START_TOPIC
                messages = Messages(channel, START_SCHEMA)
                messages.post(Acknowledged())
                await messages.receive()
                messages.post(Acknowledged())
                with pytest.raises(ChannelReset) as caught:
                    await messages.receive()
                told.append(caught.value.message)

    async def main():
        async with tree(ONE, {}, limits=Limits(start_timeout=10)) as made:
            made.start(half, made, "h")
            made.start(begins, made, "b")
            await made.server.wait_for(["h", "b"], 2)
            with pytest.raises(StartFailed):
                await start_sites(made.server, JobNotice("j", "fedavg", 1, 2), ["h", "b"], 2)
            await anyio.sleep(1)

    sim(main)
    assert told == ["the job is off"]


@pytest.mark.parametrize("mode", ["splice", "cache", "reduce"])
def test_a_repulled_mean_has_the_flat_bits_behind_any_relay(sim, mode):
    """Sums of relays are not for it: updates come one by one, twice, and nothing is spooled."""

    async def main(relays, below):
        async with tree(relays, workers(below), mode=mode) as made:
            return await repulled(made)

    flat = sim(lambda: main({}, {"server": ("a", "b", "c")}))
    assert sim(lambda: main({"r1": "server", "r2": "r1"}, {"r2": ("a", "b"), "r1": ("c",)})) == flat


async def repulled(made):
    """Run a round whose updates are pulled again to be added; return the new model's digest."""
    mean, updates = RepulledMean(MODEL, order=made.cohort.sites), []
    rounds = made.cohort.round(
        RoundTask("job", 0, 9), MODEL, reducer=mean, weigh=lambda _, meta: meta["weight"]
    )
    async with rounds as arriving:
        async for _, update in arriving:
            updates.append(update)
        result = await mean.pull_again(Repull(made.server, updates))
    assert mean.lost == {}
    return result.model_digest()
