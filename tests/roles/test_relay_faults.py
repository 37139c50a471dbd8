"""Relays and their links fail: others go on, what resumes is whole, nobody counts twice."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from flare_async.limits import KIB, MIB, Limits
from flare_async.testing import Bandwidth, OneWayCut
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.faults.world import Site, model_of, now
from tests.roles.federation import Trains, expected, settle, values
from tests.roles.tree import ONE, tree

LIMITS = Limits(
    window_bytes=256 * KIB,
    frame_bytes=64 * KIB,
    stall_timeout=20.0,
    send_timeout=200.0,
    max_resends=0,
)


async def play(made, model, number=0, **options):
    """Run a round of a model; return the new one's values."""
    from flare_async.roles.round import RoundTask

    with WeightedMean(model, order=made.cohort.sites) as mean:
        async with made.cohort.round(
            RoundTask("job", number, 9), model, reducer=mean, weigh=lambda *_: 1.0, **options
        ) as updates:
            arrived = [site async for site, _ in updates]
        assert len(arrived) == len(set(arrived)), "S1: one contribution a site"
        return mean.finish().numpy()["w"].copy()


def ended(made, number=0):
    """Return when each site's part of a round ended, and why."""
    found = {site: record for (at, site), record in made.seen.records.items() if at == number}
    return {s: r.ended for s, r in found.items()}, {s: r.reason for s, r in found.items()}


async def stalling(faults, relays=ONE, count=8):
    """Run a round of sites below one relay; return when they ended, why, and the credit used."""
    placed = {("r1", f"s{number}"): Trains() for number in range(count)}
    network = {"bandwidth": 1e6, "faults": faults}
    async with tree(relays, placed, limits=LIMITS, network=network) as made:
        budget, most = made.relays["r1"].context.budget, [0]

        async def watch():
            while True:
                most[0] = max(most[0], budget.total - budget.available)
                await anyio.sleep(0.01)

        made.context.tasks.start_soon(watch)
        await play(made, model_of(512 * KIB), quorum=count - 1)
        return *ended(made), most[0], budget.total


def test_f01_a_site_that_stops_reading_slows_nobody_else_below_its_relay(sim):
    """It is given up after its patience, by name; the relay holds no more than its credit."""
    fault = OneWayCut("down", at=2.0, site="s7")
    calm, *_ = sim(lambda: stalling(()))
    times, reasons, most, total = sim(lambda: stalling((fault,)))
    others = [f"s{number}" for number in range(7)]
    assert all(times[site] <= 1.05 * calm[site] for site in others)
    assert times["s7"] <= 2.0 + 2 * LIMITS.stall_timeout
    assert "s7 stalls its pulls" in reasons["s7"]
    assert most <= total


def test_f05_a_slow_relay_of_six_does_not_hold_up_a_round_with_a_quorum(sim):
    """Five relays finish; the deadline closes the round; the slow one's sites are late."""
    relays = {f"r{number}": "server" for number in range(6)}
    placed = {(f"r{n % 6}", f"s{n}"): Trains() for n in range(24)}
    network = {"faults": (Bandwidth(2000.0, site="r5"),)}

    async def main():
        async with tree(relays, placed, network=network) as made:
            began = now()
            await play(made, model_of(64 * KIB), quorum=20, deadline=30.0)
            return made.seen.status(), now() - began

    status, took = sim(main)
    assert took <= 31
    assert {site for site, state in status.items() if state == "late"} == {
        f"s{n}" for n in range(24) if n % 6 == 5
    }
    assert list(status.values()).count("ok") == 20


@pytest.mark.parametrize("relays", [ONE, {"r2": "server", "r1": "r2"}], ids=["one", "two"])
def test_f09_a_relay_that_is_cut_off_during_an_upload_resumes(sim, relays):
    """After 30 seconds everything goes on at the last byte; each site trained once."""
    workers = {("r1", name): Site(step) for name, step in (("a", 1.0), ("b", 4.0))}
    model = model_of(2 * MIB)

    async def main():
        async with tree(relays, workers, network={"bandwidth": 1e6}) as made:

            async def cut():
                await anyio.sleep(7)
                made.network.partition("r1")
                await anyio.sleep(30)
                made.network.heal()

            made.context.tasks.start_soon(cut)
            result = await play(made, model)
            return result, made.seen.status(), now()

    result, status, ended_at = sim(main)
    assert status == {"a": "ok", "b": "ok"}
    assert [worker.finished for worker in workers.values()] == [1, 1]
    assert np.array_equal(result, model.numpy()["w"] + np.float32(2.5))
    assert ended_at > 37


def test_f09_a_relay_that_is_cut_off_for_ten_minutes_loses_its_sites(sim):
    """The session's grace ends their leases; the round goes on with the others."""
    workers = {("r1", "a"): Site(1, seconds=20), ("server", "b"): Site(3)}

    async def main():
        async with tree(ONE, workers) as made:

            async def cut():
                await anyio.sleep(5)
                made.network.partition("r1", "server")
                await anyio.sleep(600)
                made.network.heal()

            made.context.tasks.start_soon(cut)
            _, model = await made.play(quorum=1)
            took = now()
            return values(model), made.seen.records[0, "a"], took, list(made.server.sites)

    model, record, took, sites = sim(main)
    assert model == expected((3, 1))
    assert (record.status, sites) == ("failed", ["b"])
    assert "no new link within 300 s" in record.reason
    assert took <= 5 + 300 + 20


def test_f23_sites_of_a_relay_that_dies_come_back_through_another_and_count_once(sim):
    """The same task is offered again under its new way; what the dead relay had is gone."""
    old, new = Site(1, seconds=50), Site(1, seconds=2)
    relays = {"r1": "server", "r2": "server"}

    async def main():
        workers = {("r1", "a"): old, ("r2", "b"): Site(3, seconds=20)}
        async with tree(relays, workers) as made:

            async def die():
                await old.began.wait()
                made.network.partition("r1")
                await anyio.sleep(3)
                made.scopes["a"].cancel()
                await made.site("a", new, "r2")

            made.context.tasks.start_soon(die)
            _, model = await made.play()
            await settle()
            return values(model), made.seen.status(), made.server.sites["a"].relays

    model, status, way = sim(main)
    assert model == expected((1, 1), (3, 1))
    assert (status, way) == ({"a": "ok", "b": "ok"}, ("r2",))
    assert (old.finished, new.finished) == (0, 1)


@pytest.mark.parametrize("seconds", [0, 5])
def test_a_site_that_comes_back_below_its_relay_gets_its_task_again(sim, seconds):
    """Under a newer session, at once or after its older one has left."""
    old, new = Trains(1, seconds=3600), Trains(5)

    async def main():
        async with tree(ONE, {("r1", "a"): old, ("r1", "b"): Trains(3)}) as made:

            async def again():
                await old.began.wait()
                made.start(made.site, "a", new, "r1")

            made.context.tasks.start_soon(again)
            _, model = await made.play()
            return values(model), made.seen.status(), old.cancelled, len(new.tasks), now()

    model, status, cancelled, tasks, ended_at = sim(main)
    assert (model, status) == (expected((5, 1), (3, 1)), {"a": "ok", "b": "ok"})
    assert (cancelled, tasks) == (1, 1)
    assert ended_at < 20


def test_a_site_that_leaves_its_relay_fails_its_part(sim):
    """The round goes on without it, and does not wait for it."""
    gone = Trains(9, seconds=3600)

    async def main():
        async with tree(ONE, {("r1", "a"): Trains(1), ("r1", "b"): gone}) as made:

            async def leave():
                await gone.began.wait()
                made.scopes["b"].cancel()

            made.context.tasks.start_soon(leave)
            _, model = await made.play(quorum=1)
            await settle()
            return values(model), made.seen.status(), list(made.server.sites), now()

    model, status, sites, ended_at = sim(main)
    assert (model, status["b"], sites) == (expected((1, 1)), "failed", ["a"])
    assert ended_at < 20


def test_a_relay_whose_server_says_goodbye_tells_its_sites(sim):
    """Their clients end in order, as below a server."""

    async def main():
        async with tree(ONE, {("r1", "a"): Trains()}) as made:
            await anyio.sleep(1)
            made.server.end_sessions(0, "done")
            await settle()
            return made.relays["r1"].sites, made.server.sites

    assert sim(main) == ({}, {})


def test_a_model_of_many_tensors_passes_with_small_windows(sim):
    """More tensors than a site may pull at once, larger ones than its share of the credit."""
    generator = np.random.default_rng(3)
    params = {f"t{n}": generator.random(n * 997, np.float32) for n in range(60)}
    model = TensorSet.from_params({"w": np.ones(5, np.float32), **params})
    limits = Limits(channels=64)
    placed = {("r1", f"s{number}"): Trains(0.0) for number in range(6)}

    async def main():
        async with tree(ONE, placed, limits=limits, process_bytes=4 * MIB) as made:
            await play(made, model)
            return made.seen.status()

    assert set(sim(main).values()) == {"ok"}
