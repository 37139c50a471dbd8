"""Rounds of real servers and clients, over memory and a simulated network, in virtual time."""

from __future__ import annotations

import asyncio

import anyio
import numpy as np
import pytest

from flare_async.errors import ConfigError, QuorumNotReached, TrainingFailed
from flare_async.roles.decisions import CloseReason
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import (
    MODEL,
    SCHEMES,
    Trains,
    expected,
    federation,
    settle,
    values,
)

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


def shelves(made):
    """Return how many offers the server and its sites hold."""
    return {name: len(client.shelf._offers) for name, client in made.clients.items()} | {
        "server": len(made.server.shelf._offers)
    }


def test_a_round_averages_its_updates_and_leaves_nothing_on_the_shelves(sim, scheme):
    """Weights count, every update arrives once, and committed updates are let go."""
    workers = {f"s{i}": Trains(i, seconds=3 - i, weight=i + 1) for i in range(3)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            updates, model = await made.play()
            await settle()
            return updates, model, made.seen.status(), shelves(made)

    updates, model, status, held = sim(main)
    assert [update.site for update in updates] == ["s2", "s1", "s0"]
    assert values(model) == expected((0, 1), (1, 2), (2, 3))
    assert status == dict.fromkeys(workers, "ok")
    assert held == {"s0": 0, "s1": 0, "s2": 0, "server": 0}


def test_an_update_says_what_came_with_it(sim, scheme):
    """Metrics, meta, weight and bytes; tensors only where no reducer took them."""

    async def main():
        async with federation({"a": Trains(2, weight=5)}, scheme=scheme) as made:
            (reduced,), _ = await made.play(0)
            (plain,), _ = await made.play(1, reducer=False)
            return reduced, plain, dict(made.seen.records)

    reduced, plain, records = sim(main)
    assert (reduced.metrics, reduced.weight, reduced.seconds) == ({"step": 2}, 5, 0.5)
    assert (reduced.nbytes, reduced.tensors) == (MODEL.nbytes, None)
    assert values(plain.tensors) == expected((2, 1))
    assert [(r.bytes_down, r.bytes_up) for r in records.values()] == [(24, 24), (24, 24)]


def test_the_deadline_closes_with_the_quorum_and_revokes_the_others(sim, scheme):
    """Who is late is named, its channel is reset, its work is cancelled."""
    workers = {"a": Trains(1), "slow": Trains(5, seconds=3600), "b": Trains(3)}

    async def main():
        loop = asyncio.get_running_loop()
        async with federation(workers, scheme=scheme) as made:
            began = loop.time()
            updates, model = await made.play(quorum=2, deadline=30)
            took = loop.time() - began
            await settle()
            return updates, model, took, made.seen.records[0, "slow"], shelves(made)

    updates, model, took, record, held = sim(main)
    assert sorted(update.site for update in updates) == ["a", "b"]
    assert values(model) == expected((1, 1), (3, 1))
    assert (round(took, 1), workers["slow"].cancelled) == (30, 1)
    assert (record.status, record.reason) == ("late", "the round was closed")
    assert held == {"a": 0, "slow": 0, "b": 0, "server": 0}


def test_a_deadline_without_a_quorum_names_who_failed_and_who_was_late(sim, scheme):
    """The error leaves the block as it is, not in a group."""
    workers = {
        "good": Trains(),
        "bad": Trains(error=TrainingFailed("bad", "no data")),
        "slow": Trains(seconds=3600),
    }

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with pytest.raises(QuorumNotReached) as caught:
                await made.play(4, quorum=2, deadline=60)
            await settle()
            return caught.value, shelves(made)

    error, held = sim(main)
    assert (error.round_number, error.arrived, error.quorum) == (4, 1, 2)
    assert error.failures == {"bad": "no data", "slow": "the round was closed"}
    assert workers["slow"].cancelled == 1
    assert held == {"good": 0, "bad": 0, "slow": 0, "server": 0}


def test_a_quorum_out_of_reach_does_not_wait_for_the_deadline(sim, scheme):
    """Two of three have failed: the third is told to stop at once."""
    workers = {name: Trains(error=TrainingFailed(name, "no data")) for name in ("a", "b")}
    workers["slow"] = Trains(seconds=3600)

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with pytest.raises(QuorumNotReached, match="0 updates arrived, quorum is 2"):
                await made.play(quorum=2, deadline=1000)
            return asyncio.get_running_loop().time()

    assert sim(main) < 100


def test_over_selection_asks_a_seeded_draw_and_closes_at_the_size(sim, scheme):
    """Of eight sites six are asked, the first four updates make the model."""
    workers = {f"s{i}": Trains(i, seconds=i) for i in range(8)}

    async def main(seed):
        options = {"size": 4, "over_select": 1.5, "quorum": 2}
        async with federation(workers, scheme=scheme, seed=seed) as made:
            updates, model = await made.play(**options)
            return [site for _, site in made.seen.started], updates, model, made.seen.status()

    asked, updates, model, status = sim(lambda: main(7))
    assert asked == sorted(asked)
    assert (len(asked), [update.site for update in updates]) == (6, asked[:4])
    assert values(model) == expected(*((int(site[1:]), 1) for site in asked[:4]))
    assert list(status.values()).count("late") == 2
    assert sim(lambda: main(7))[0] == asked
    assert len({tuple(sim(lambda seed=seed: main(seed))[0]) for seed in range(4)}) > 1


def test_each_round_draws_other_sites(sim, scheme):
    """The draw depends on the seed and the round, not on what was drawn before."""

    async def main():
        async with federation({f"s{i}": Trains() for i in range(9)}, scheme=scheme) as made:
            return [made.cohort.choose(number, 3) for number in range(6)]

    drawn = sim(main)
    assert len(set(drawn)) > 1
    assert all(len(set(sites)) == 3 for sites in drawn)
    assert drawn == sim(main)


def test_a_site_that_raises_is_named_and_the_round_goes_on(sim, scheme):
    """The next round asks it again."""
    workers = {"a": Trains(1), "b": Trains(9, error=TrainingFailed("b", "ValueError: no data"))}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            _, first = await made.play(0, quorum=1)
            workers["b"].error = None
            _, second = await made.play(1, quorum=1)
            return first, second, made.seen.records

    first, second, records = sim(main)
    assert (records[0, "b"].status, records[0, "b"].reason) == ("failed", "ValueError: no data")
    assert values(first) == expected((1, 1))
    assert values(second) == expected((1, 1), (9, 1))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"step": np.nan}, "tensor 'w': a value in bytes 0 to 24 is not finite"),
        ({"weight": 0.0}, "weight 0.0 is not above 0"),
        ({"weight": np.inf}, "weight inf is not above 0"),
    ],
)
def test_a_refused_update_touches_no_bit(sim, scheme, broken, problem):
    """The model equals that of a run without the site, and the site knows it was refused."""
    good = {"a": {"step": 0.1, "weight": 3.0}, "c": {"step": 0.7, "weight": 1.0}}

    async def main(settings):
        workers = {name: Trains(**options) for name, options in settings.items()}
        async with federation(workers, scheme=scheme) as made:
            _, model = await made.play(quorum=2)
            await settle()
            return bytes(model["w"]), made.seen.records, shelves(made)

    bits, records, held = sim(lambda: main({"a": good["a"], "b": broken, "c": good["c"]}))
    assert records[0, "b"].status == "refused"
    assert problem in records[0, "b"].reason
    assert bits == sim(lambda: main(good))[0]
    assert held == {"a": 0, "b": 0, "c": 0, "server": 0}


def test_an_update_with_other_tensors_is_refused_with_the_difference(sim, scheme):
    """The manifest is enough: no byte of it is pulled."""

    class Reshapes(Trains):
        async def run(self, task):
            result = await super().run(task)
            other = TensorSet.from_params({"w": np.zeros((3, 2), np.float32)})
            object.__setattr__(result, "tensors", other)
            return result

    async def main():
        async with federation({"a": Trains(1), "b": Reshapes()}, scheme=scheme) as made:
            await made.play(quorum=1)
            return made.seen.records[0, "b"], made.clients["b"].shelf

    record, _ = sim(main)
    assert record.status == "refused"
    assert "w" in record.reason
    assert "[3, 2]" in record.reason


def test_a_site_that_is_not_connected_fails_its_part(sim, scheme):
    """A site that left between two rounds is named, the rest is not held up."""

    async def main():
        async with federation({"a": Trains(1)}, scheme=scheme) as made:
            await made.play(sites=("a", "ghost"), quorum=1)
            return made.seen.records[0, "ghost"]

    record = sim(main)
    assert (record.status, record.reason) == ("failed", "is not connected")


def test_an_exception_in_the_body_resets_everybody(sim, scheme):
    """Work is cancelled at all sites, no task is left, the exception comes out unchanged."""
    workers = {"a": Trains(seconds=3600), "b": Trains(seconds=3600), "done": Trains()}

    async def fail_in(made):
        async with made.cohort.round(RoundTask("job", 0, 1), MODEL) as updates:
            async for _ in updates:
                raise ZeroDivisionError

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with pytest.raises(ZeroDivisionError):
                await fail_in(made)
            await settle()
            return shelves(made), len(made.server.sites)

    held, connected = sim(main)
    assert [workers[name].cancelled for name in ("a", "b")] == [1, 1]
    assert held == {"a": 0, "b": 0, "done": 0, "server": 0}
    assert connected == 3


def test_cancelling_the_round_resets_everybody(sim, scheme):
    """A deadline of the caller's own leaves the federation as it was."""
    workers = {"a": Trains(seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with anyio.move_on_after(10) as scope:
                await made.play()
            await settle()
            workers["a"].seconds = 0
            _, model = await made.play(1)
            await settle()
            return scope.cancelled_caught, model, shelves(made)

    cancelled, model, held = sim(main)
    assert (cancelled, workers["a"].cancelled) == (True, 1)
    assert values(model) == expected((1, 1))
    assert held == {"a": 0, "server": 0}


def test_leaving_the_block_early_takes_what_has_arrived(sim, scheme):
    """A body that has seen enough breaks out: the others are reset and recorded as late."""
    workers = {"a": Trains(), "slow": Trains(seconds=3600), "last": Trains()}

    async def main():
        async with federation(workers, scheme=scheme, window=2) as made:
            async with made.cohort.round(RoundTask("job", 0, 1), MODEL) as updates:
                async for site, _ in updates:
                    assert site == "a"
                    break
                reason = updates.closed
            await settle()
            return reason, updates.closed, made.seen, shelves(made)

    reason, closed, seen, held = sim(main)
    assert (reason, closed, workers["slow"].cancelled) == (None, CloseReason.LEFT, 1)
    assert seen.status() == {"a": "ok", "slow": "late", "last": "late"}
    assert held == {"a": 0, "slow": 0, "last": 0, "server": 0}


def test_the_window_bounds_how_many_sites_hold_a_task(sim, scheme):
    """The first site is slow: only those within the window work meanwhile."""
    workers = {f"s{i}": Trains(i, seconds=100 * (i == 0)) for i in range(6)}

    async def main():
        async with federation(workers, scheme=scheme, window=3) as made:
            reached = []

            async def look():
                await anyio.sleep(50)
                reached.extend(site for _, site in made.seen.started)

            made.context.tasks.start_soon(look)
            updates, _ = await made.play()
            return reached, [update.site for update in updates]

    reached, arrived = sim(main)
    assert reached == ["s0", "s1", "s2"]
    assert sorted(arrived[:2]) == ["s1", "s2"]
    assert sorted(arrived) == list(workers)


def test_a_round_that_closes_while_an_update_is_being_summed_keeps_it(sim, scheme):
    """An admitted update cannot be taken back: the body is told of the end when all are added."""
    model = TensorSet.from_params({"w": np.zeros(3 << 20, np.float32)})
    workers = {name: Trains(step) for name, step in (("a", 1.0), ("b", 3.0), ("c", 5.0))}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with WeightedMean(model, order=list(workers)) as mean:
                async with made.cohort.round(
                    RoundTask("job", 0, 1), model, quorum=1, size=2, reducer=mean
                ) as updates:
                    sites = [site async for site, _ in updates]
                    result = mean.finish()
                    assert updates.closed is CloseReason.TARGET
            return sites, result.numpy()["w"][0], made.seen.status()

    sites, value, status = sim(main)
    steps = {"a": 1.0, "b": 3.0, "c": 5.0}
    assert value == np.mean([steps[site] for site in sites])
    assert sorted(sites) == sorted(site for site in status if status[site] == "ok")
    assert len(sites) == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"quorum": 3}, "quorum"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": 2, "size": 1}, "quorum"),
        ({"deadline": 0}, "deadline"),
        ({"over_select": 0.5}, "over_select"),
        ({"over_select": float("nan")}, "over_select"),
    ],
)
def test_options_that_no_round_can_meet_are_refused(sim, scheme, options, field):
    """The error names the option, and nobody was given a task."""

    async def main():
        async with federation({"a": Trains(), "b": Trains()}, scheme=scheme) as made:
            with pytest.raises(ConfigError) as caught:
                await made.play(**options)
            return caught.value, made.seen.started

    error, started = sim(main)
    assert (error.field, started) == (field, [])
