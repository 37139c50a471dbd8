"""S1, S2, S6, S9, S11, L1 after drawn mixtures of faults: a seed that fails is kept here."""

from __future__ import annotations

import random

import pytest

from flare_async.limits import MIB
from flare_async.testing import (
    Bandwidth,
    BitFlip,
    Cut,
    HalfOpen,
    OneWayCut,
    ResetInFrame,
    Slice,
)
from tests.faults.world import SMALL_WINDOWS, Site, model_of, world

MODEL = model_of(MIB)
SEEDS = range(12)
PLACES = ("head", "payload", "last_byte")


def drawn(dice, site):
    """Return one fault of a site; all of them end or heal within a minute."""
    way, at = dice.choice(("up", "down")), dice.uniform(0, 10)
    here = {"site": site, "direction": way}
    step = dice.randrange(50_000, MIB)
    choices = [
        Cut(after_bytes=dice.randrange(500, MIB), every=step, stop=60, **here),
        Cut(at=at, every=dice.uniform(1, 9), stop=60, site=site),
        ResetInFrame(dice.choice(PLACES), dice.randrange(1, 16), **here),
        HalfOpen(at, site=site),
        OneWayCut(way, at, heals=at + dice.uniform(1, 40), site=site),
        BitFlip(dice.randrange(MIB), payload=True, **here),
        Slice(dice.randrange(100, 9000), varied=True, site=site),
        Bandwidth(dice.uniform(2e4, 1e6), site=site),
    ]
    return dice.choice(choices)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_round_survives_any_mixture(sim, seed):
    """Everybody contributes once, the mean is right, and the round ends in bounded time."""
    dice = random.Random(f"mixture {seed}")
    faults = [drawn(dice, site) for site in "abc" for _ in range(2)]
    workers = {"a": Site(1, seconds=2), "b": Site(2, seconds=1), "c": Site(3)}

    async def main():
        async with world(workers, *faults, limits=SMALL_WINDOWS, seed=seed) as made:
            mean, seconds = await made.round(MODEL)
            return mean, seconds, made.seen.status()

    mean, seconds, status = sim(main, seed=seed, horizon=3600)
    assert status == {"a": "ok", "b": "ok", "c": "ok"}, faults
    assert mean.tobytes() == (MODEL.numpy()["w"] + 2).tobytes(), faults
    assert [site.finished for site in workers.values()] == [1, 1, 1], faults
    assert seconds < 400, faults
