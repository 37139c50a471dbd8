"""The digits and their division among sites."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import ConfigError
from flare_async.sim.dataset import NUM_CLASSES, pooled, read_test_set, split_digits

pytest.importorskip("sklearn")

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_least_one_of_eight_sites_lacks_at_least_three_digits(seed: int) -> None:
    """The sites do not look alike, at any of the seeds that the accuracy is promised for."""
    missing = [site.class_counts().count(0) for site in split_digits(8, 0.5, seed)]
    assert max(missing) >= 3


@pytest.mark.parametrize("num_sites", [2, 8, 700])
def test_sites_and_test_set_together_are_all_images(num_sites: int) -> None:
    """No image is lost, and none is both in a site and in the test set."""
    together = pooled(split_digits(num_sites, 0.5, 1))
    test = read_test_set()
    parts = (together.train, together.validation, test)
    assert sum(map(len, parts)) == 1797
    counted = sum(np.bincount(part.digits, minlength=NUM_CLASSES) for part in parts)
    assert counted.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_every_site_can_train_and_validate() -> None:
    """A site of two images has one for either."""
    sites = split_digits(700, 0.5, 1)
    assert min(len(site.train) for site in sites) >= 1
    assert min(len(site.validation) for site in sites) >= 1


def test_validation_is_about_a_sixth() -> None:
    """The part that is kept from training is 15 to 20 percent."""
    for site in split_digits(8, 0.5, 7):
        share = len(site.validation) / (len(site.train) + len(site.validation))
        assert 0.15 <= share <= 0.20


def test_the_test_set_is_the_same_for_every_seed_and_stratified() -> None:
    """It is a fifth of every digit."""
    first, again = read_test_set(), read_test_set()
    assert np.array_equal(first.images, again.images)
    assert np.bincount(first.digits).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_too_many_sites_are_refused() -> None:
    """The error says how many there may be."""
    with pytest.raises(ConfigError, match="at most 719 sites"):
        split_digits(720, 0.5, 0)
