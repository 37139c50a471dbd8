"""Seeds that are made for a row of sites at once are those of each site alone."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.jobs.seed_words import seed_words
from flare_async.jobs.site import Site, SiteInfo
from flare_async.jobs.site_seeds import LEAST, ROW, SiteSeeds

SITES = 2 * ROW + LEAST


def site_at(index: int, *, number: int = 0, seed: int = 7, sites: int = SITES) -> Site:
    """Return a site of a run."""
    return Site(
        SiteInfo(name="a", index=index, num_sites=sites, seed=seed, round_number=number), {}
    )


def alone(site: Site) -> list[int]:
    """Return the seeds as NumPy makes them."""
    info = site.info
    key = (info.round_number, info.index, 2)
    found = np.random.SeedSequence(info.seed, spawn_key=key).generate_state(3, np.uint64)
    return [int(seed) for seed in found]


@pytest.mark.parametrize("length", [4, 5, 7, 8, 11])
def test_words_of_many_seeds_are_those_of_each(length: int) -> None:
    """Entropy as long as the pool, and longer."""
    words = np.random.default_rng(length).integers(0, 2**32, (length, 20), dtype=np.uint32)
    found = seed_words(list(words), 3)
    each = [np.random.SeedSequence(one).generate_state(3, np.uint64) for one in words.T]
    assert found.tolist() == [one.tolist() for one in each]


@pytest.mark.parametrize("step", [1, 3, 4, 5, -1, 100])
@pytest.mark.parametrize(("number", "seed"), [(0, 0), (2**33, 2**63 - 1)])
def test_sites_have_their_own_seeds_in_whatever_order_they_come(
    step: int, number: int, seed: int
) -> None:
    """Neighbours, those further away, and everybody backwards, over the ends of rows."""
    seeds = SiteSeeds()
    sites = [site_at(index, number=number, seed=seed) for index in range(SITES)][::step]
    assert [seeds.of(site) for site in sites] == [alone(site) for site in sites]


def test_another_round_and_another_run_have_other_seeds() -> None:
    """Nothing of an earlier row is left."""
    seeds = SiteSeeds()
    for number, seed in [(0, 1), (1, 1), (1, 2), (0, 1)]:
        for index in (10, 11, 12, 2, 11):
            site = site_at(index, number=number, seed=seed)
            assert seeds.of(site) == alone(site)


@pytest.mark.parametrize("sites", [1, 2, LEAST, LEAST + 1])
def test_few_sites_have_their_seeds_too(sites: int) -> None:
    """Below the number from which a row is worth it, and at it."""
    seeds = SiteSeeds()
    asked = [site_at(index, sites=sites) for index in range(sites)]
    assert [seeds.of(site) for site in asked] == [alone(site) for site in asked]
