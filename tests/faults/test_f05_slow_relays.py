"""F05: one of six relays is slow, with 24 sites each; the others do not wait for it."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.limits import KIB
from flare_async.testing import Bandwidth
from flare_async.transfer.mean import WeightedMean
from tests.faults.world import model_of, now
from tests.roles.federation import Trains
from tests.roles.test_relay_faults import play
from tests.roles.tree import tree
from tests.transfer.helpers import adopt, params

RELAYS = {f"r{number}": "server" for number in range(6)}
PLACES = {f"s{number:03}": f"r{number % 6}" for number in range(144)}
SLOW = {site for site, relay in PLACES.items() if relay == "r5"}
MODEL = model_of(16 * KIB)
HEALS = 200  # seconds


def placed():
    """Return 144 sites, each of which adds another number."""
    return {(PLACES[site], site): Trains(n * 0.1) for n, site in enumerate(PLACES)}


def mean_of(sites):
    """Return the bytes of the mean of these sites, without any network."""
    with WeightedMean(MODEL, order=list(PLACES)) as mean:
        for number, site in enumerate(PLACES):
            if site in sites:
                array = MODEL.numpy()["w"] + (number * 0.1)
                adopt(mean.stage(site, 1.0), params(w=array.astype("float32")))
                mean.commit(site)
        return mean.finish().numpy()["w"].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "least", "most"),
    [({"quorum": 120, "deadline": 60.0}, 59, 61), ({"quorum": 100, "size": 120}, 0, 30)],
    ids=["deadline", "size"],
)
def test_f05_five_relays_of_24_sites_finish_and_the_sixth_is_late(sim, options, least, most):
    """By the deadline, or at once where 120 are enough; healed, all 144 are in the next round."""

    async def main():
        network = {"faults": (Bandwidth(500.0, site="r5", start=3.0, stop=HEALS),)}
        async with tree(RELAYS, placed(), network=network) as made:
            await asyncio.sleep(max(0.0, 3.0 - now()))
            began = now()
            first = await play(made, MODEL, **options)
            took = now() - began
            await asyncio.sleep(HEALS + 60 - now())
            began = now()
            second = await play(made, MODEL, 1)
            return first, took, second, now() - began, made.seen

    first, took, second, healed, seen = sim(main)
    late = {site for site, how in seen.status(0).items() if how == "late"}
    assert late == SLOW
    assert list(seen.status(0).values()).count("ok") == 120
    assert least <= took <= most
    assert first.tobytes() == mean_of(set(PLACES) - SLOW)
    assert set(seen.status(1).values()) == {"ok"}
    assert healed <= 30
    assert second.tobytes() == mean_of(PLACES)
