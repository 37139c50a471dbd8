"""The division of labelled samples among sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError
from flare_async.sim.partition import dirichlet_partition

LABELS = np.arange(1500, dtype=np.int64) % 10


@settings(deadline=None, max_examples=60)
@given(
    num_sites=st.integers(1, 60),
    alpha=st.floats(0.001, 1000),
    seed=st.integers(0, 2**40),
    minimum=st.integers(1, 5),
)
def test_every_sample_is_used_exactly_once(
    num_sites: int, alpha: float, seed: int, minimum: int
) -> None:
    """Whatever the draw, the sites' indices together are all indices, and no site is short."""
    sites = dirichlet_partition(LABELS, num_sites, alpha, seed, minimum=minimum)
    assert len(sites) == num_sites
    assert np.array_equal(np.sort(np.concatenate(sites)), np.arange(len(LABELS)))
    assert min(map(len, sites)) >= minimum


def test_a_thousand_sites_are_served() -> None:
    """Moves fill the sites that the draws left empty."""
    sites = dirichlet_partition(LABELS, 1000, 0.1, 3)
    assert len(sites) == 1000
    assert min(map(len, sites)) == 1
    assert sum(map(len, sites)) == len(LABELS)


def test_the_seed_decides() -> None:
    """The same seed gives the same division, another seed another."""
    first, again, other = (dirichlet_partition(LABELS, 8, 0.5, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_small_alpha_gives_sites_fewer_classes_than_a_large_one() -> None:
    """Alpha is what the documentation says that it is."""

    def classes(alpha: float) -> int:
        sites = dirichlet_partition(LABELS, 8, alpha, 0)
        return sum(len(np.unique(LABELS[site])) for site in sites)

    assert classes(0.05) < classes(0.5) < classes(100.0) == 80


@pytest.mark.parametrize(
    ("field", "num_sites", "alpha", "minimum"),
    [
        ("alpha", 8, 0.0, 1),
        ("alpha", 8, -1.0, 1),
        ("alpha", 8, float("nan"), 1),
        ("alpha", 8, float("inf"), 1),
        ("num_sites", 0, 0.5, 1),
        ("num_sites", 1501, 0.5, 1),
        ("num_sites", 751, 0.5, 2),
        ("minimum", 8, 0.5, 0),
    ],
)
def test_what_cannot_be_divided_is_refused(
    field: str, num_sites: int, alpha: float, minimum: int
) -> None:
    """The error names the argument and its value."""
    with pytest.raises(ConfigError) as caught:
        dirichlet_partition(LABELS, num_sites, alpha, 0, minimum=minimum)
    assert caught.value.field == field
