"""F06, F11, F17, F18, F32 and deadlines: rounds over links that misbehave, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from flare_async.limits import KIB, MIB
from flare_async.testing import Bandwidth, BitFlip, Cut, Freeze, ResetInFrame, SlowReader
from tests.faults.world import SMALL_WINDOWS, Site, model_of, now, world

MODEL = model_of(2 * MIB)
DIRECTIONS = ("down", "up")


def outcome(sim, *faults, workers=None, limits=SMALL_WINDOWS, **options):
    """Run one round; return (mean, status, connections, seconds)."""
    workers = workers or {"a": Site(1), "b": Site(2), "c": Site(3)}

    async def main():
        async with world(workers, *faults, limits=limits) as made:
            mean, seconds = await made.round(MODEL, **options)
            return mean, made.seen.status(), made.network.made, seconds

    return sim(main)


def all_ok(*sites):
    """Return the status of a round to which everybody has contributed."""
    return dict.fromkeys(sites or "abc", "ok")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("where", ["head", "payload", "last_byte"])
def test_f06_a_reset_anywhere_in_a_frame_is_resumed(sim, where, direction):
    """One more connection, the same bits, each site trained once."""
    workers = {"a": Site(1), "b": Site(2), "c": Site(3)}
    fault = ResetInFrame(where, occurrence=9, site="b", direction=direction)
    clean, *_ = outcome(sim)
    mean, status, made, _ = outcome(sim, fault, workers=workers)
    assert (mean.tobytes(), status, made) == (clean.tobytes(), all_ok(), 4)
    assert [site.finished for site in workers.values()] == [1, 1, 1]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_f06_many_cuts_at_any_byte_are_resumed(sim, direction):
    """Every 333,333 bytes: the transfer goes on where it was."""
    clean, *_ = outcome(sim)
    fault = Cut(after_bytes=100_001, every=333_333, direction=direction)
    mean, status, made, _ = outcome(sim, fault)
    assert (mean.tobytes(), status) == (clean.tobytes(), all_ok())
    assert 3 + 3 * 6 <= made <= 3 + 3 * 8


def test_f11_swizzled_links_finish_with_every_update_once(sim):
    """All links are frozen one by one and thawed in another order; the round ends."""
    names = [f"site-{number}" for number in range(8)]
    workers = {name: Site(number, seconds=5) for number, name in enumerate(names)}
    thaws = random.Random("thaws").sample(range(8), 8)
    faults = [
        Freeze(1 + at, heals=20 + 2 * thaw, site=name)
        for at, (name, thaw) in enumerate(zip(names, thaws, strict=True))
    ]
    clean, *_ = outcome(sim, workers={n: Site(i, seconds=5) for i, n in enumerate(names)})
    mean, status, _, seconds = outcome(sim, *faults, workers=workers)
    assert (mean.tobytes(), status) == (clean.tobytes(), all_ok(*names))
    assert [site.finished for site in workers.values()] == [1] * 8
    assert seconds < 34 + 30


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_f18_a_flipped_bit_never_reaches_the_sum(sim, direction):
    """The digest finds it, the bytes are pulled again, and the mean has the right bits."""
    clean, *_ = outcome(sim)
    fault = BitFlip(MIB + 77, payload=True, site="b", direction=direction)
    mean, status, _, _ = outcome(sim, fault)
    assert (mean.tobytes(), status) == (clean.tobytes(), all_ok())


def test_f32_a_fast_site_waits_in_peace_for_the_slow_ones(sim):
    """It is not asked twice, does not ask, and its link carries nothing but heartbeats."""
    workers = {"fast": Site(1), "slow": Site(3)}

    async def main():
        async with world(workers, Bandwidth(50_000, site="slow"), limits=SMALL_WINDOWS) as made:
            mean, seconds = await made.round(MODEL)
            again, _ = await made.round(MODEL, 1)
            return seconds, made.network.made, float(mean[0]), float(again[0])

    seconds, links, *means = sim(main)
    assert seconds > 2 * 2 * MIB / 50_000 * 0.9
    assert (links, means) == (2, [2.0, 2.0])
    assert [len(site.tasks) for site in workers.values()] == [2, 2]


@pytest.mark.parametrize("fault", [Bandwidth, SlowReader])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_rounds_deadline_never_poisons_a_link(sim, fault, direction):
    """It closes in the middle of transfers; all sessions go on, the slow one's as well."""
    workers = {"a": Site(1), "b": Site(2), "slow": Site(3)}
    slow = fault(100 * KIB, site="slow", direction=direction, stop=10)

    async def main():
        async with world(workers, slow, limits=SMALL_WINDOWS) as made:
            sessions = dict(made.server.sites)
            _, seconds = await made.round(MODEL, quorum=2, deadline=5)
            await asyncio.sleep(max(0, 11 - now()))
            mean, _ = await made.round(MODEL, 1)
            same = {name: made.server.sites[name] is sessions[name] for name in workers}
            return seconds, same, made.network.made, made.seen.status(0), float(mean[0])

    seconds, same, links, first, mean = sim(main)
    assert seconds == pytest.approx(5, abs=0.1)
    assert (links, same) == (3, dict.fromkeys(workers, True))
    assert (first, mean) == ({"a": "ok", "b": "ok", "slow": "late"}, 2.0)


def test_a_deadline_passes_while_nobody_can_be_reached(sim):
    """A frozen site is late; when it thaws, it takes part again."""
    workers = {"a": Site(1), "b": Site(2)}

    async def main():
        async with world(workers, Freeze(0.5, heals=12, site="b")) as made:
            await asyncio.sleep(0.5)
            _, seconds = await made.round(MODEL, quorum=1, deadline=5)
            await asyncio.sleep(30)
            mean, _ = await made.round(MODEL, 1)
            return seconds, made.seen.status(0), float(mean[0])

    seconds, status, mean = sim(main)
    assert (status, mean) == ({"a": "ok", "b": "late"}, 1.5)
    assert seconds == pytest.approx(5, abs=0.1)
