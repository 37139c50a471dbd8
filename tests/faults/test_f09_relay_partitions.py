"""F09: a relay is cut off from its server while results go up, for half a minute or for ten."""

from __future__ import annotations

import anyio
import pytest

from flare_async.limits import KIB, MIB, Limits
from tests.faults.world import Site, model_of, now
from tests.roles.test_relay_faults import play
from tests.roles.tree import tree

TWO = {"r1": "server", "r2": "server"}
MODEL = model_of(2 * MIB)
GRACE = Limits().session_grace


def placed():
    """Return two sites behind the relay that is cut off, and one beside it."""
    return {("r1", "a"): Site(1.0), ("r1", "b"): Site(2.0), ("r2", "c"): Site(4.0)}


async def in_the_upload(made):
    """Wait until a part of a result of each site has come up."""
    while True:
        await anyio.sleep(0.001)
        offers = [one for name in ("a", "b") for one in made.clients[name].shelf._offers.values()]
        moved = [sum(c.statistics().acknowledged for c in one.channels) for one in offers]
        if len(moved) == 2 and min(moved) >= 300 * KIB:
            return


def cut_off(sim, seconds, mode="splice", **options):
    """Cut a relay off in the middle of two uploads; play that round and another one."""
    workers = placed()

    async def main():
        network = {"bandwidth": 1e6}
        async with tree(TWO, workers, network=network, mode=mode) as made:

            async def cut():
                await in_the_upload(made)
                made.network.partition("r1", "server")
                cuts.append(now())
                await anyio.sleep(seconds)
                made.network.heal()
                if seconds > GRACE:  # relay and sites have ended: somebody starts them again
                    made.start(made.relay, "r1", "server", mode=mode)
                    await anyio.sleep(1)
                    for name in "ab":
                        made.start(made.site, name, done[name], "r1")

            cuts, began = [], now()
            made.context.tasks.start_soon(cut)
            first = await play(made, MODEL, **options)
            took = now() - began
            await anyio.sleep(max(0.0, cuts[0] + seconds + 60 - now()))
            await made.server.wait_for("abc", 3)
            second = await play(made, MODEL, 1)
            return first[0], took, second[0], made.seen, {n: w.finished for n, w in done.items()}

    done = {name: worker for (_, name), worker in workers.items()}
    return sim(main)


@pytest.mark.parametrize("mode", ["splice", "cache", "reduce"])
def test_f09_half_a_minute_costs_half_a_minute(sim, mode):
    """What was there stays there: nobody trains twice, everybody counts once."""
    first, took, second, seen, finished = cut_off(sim, 30, mode)
    assert (first, second) == (pytest.approx(7 / 3), pytest.approx(7 / 3))
    assert seen.status(0) == seen.status(1) == dict.fromkeys("abc", "ok")
    assert finished == dict.fromkeys("abc", 2)
    assert 30 <= took <= 60


def test_f09_ten_minutes_cost_the_results_and_the_sites_take_part_again(sim):
    """Its session's grace ends their leases with the reason; the next round has all of them."""
    first, took, second, seen, _ = cut_off(sim, 600, quorum=1)
    assert (first, second) == (4.0, pytest.approx(7 / 3))
    assert seen.status(0) == {"a": "failed", "b": "failed", "c": "ok"}
    assert seen.status(1) == dict.fromkeys("abc", "ok")
    for site in "ab":
        reason = seen.records[0, site].reason
        assert reason.startswith(f"result_source_lost: {site}: the result of 'train' of round 0")
        assert f"of {MODEL.nbytes} bytes came" in reason
        assert f"no new link within {GRACE:g} s" in reason
    assert GRACE <= took <= GRACE + 30


def test_f09_a_deadline_in_between_makes_them_late(sim):
    """Results that come when the partition has healed touch nothing."""
    first, took, second, seen, _ = cut_off(sim, 120, quorum=1, deadline=60)
    assert (first, second) == (4.0, pytest.approx(7 / 3))
    assert seen.status(0) == {"a": "late", "b": "late", "c": "ok"}
    assert seen.status(1) == dict.fromkeys("abc", "ok")
    assert took == pytest.approx(60, abs=0.5)
