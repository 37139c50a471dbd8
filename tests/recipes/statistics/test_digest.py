"""Digests: merged ones estimate quantiles of all data within the bound that is documented."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, MissingExtra
from flare_async.recipes.statistics import Digest
from tests.recipes.statistics.generators import parts_of
from tests.recipes.statistics.test_fed_stats import recipe, result
from tests.references import fed_stats

SHARES = (0.01, 0.1, 0.25, 0.5, 0.9, 0.99)
FLOATS = st.floats(-1e9, 1e9)


@pytest.fixture
def library():
    """Skip where the extra is not installed."""
    return pytest.importorskip("fastdigest")


def bound(share, centroids):
    """Return how wrong a rank may be."""
    return np.pi * np.sqrt(share * (1 - share)) / centroids


@pytest.mark.parametrize("centroids", [50, 200])
@pytest.mark.parametrize("draw", ["normal", "exponential", "integers"])
def test_quantiles_of_merged_digests_are_within_the_bound(library, centroids, draw):
    """Twenty sites whose data differ, five thousand values each."""
    rng = np.random.default_rng(5)
    sizes = {"normal": (0, 1), "exponential": (2,), "integers": (0, 40)}[draw]
    parts = [getattr(rng, draw)(*sizes, 5000) + at for at in range(20)]
    digest = Digest.merged([Digest.of(part, centroids) for part in parts], centroids)
    assert digest.mass == 100_000
    assert len(digest.means) <= centroids
    for share in SHARES:
        error = fed_stats.rank_error(parts, share, digest.quantile(share))
        assert error <= bound(share, centroids)


@pytest.mark.parametrize("rows", [1000, 20_000])
def test_coarser_centroids_cost_no_more_than_their_weight_at_each_site(library, rows):
    """At the ends too, where a bound that is a share of all values would be lost."""
    rng = np.random.default_rng(6)
    parts = [rng.exponential(size=rows) for _ in range(3)]
    merged = Digest.merged([Digest.of(part, 200).coarsened(10, 200) for part in parts], 200)
    for share in (0.0, 0.0005, 0.001, *SHARES, 0.999, 0.9995, 1.0):
        error = fed_stats.rank_error(parts, share, merged.quantile(share))
        assert error <= bound(share, 200) + (3 * 10 + 1) / (3 * rows), share


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_quantiles_of_a_run_are_those_of_the_pooled_data(library, tmp_path, workers):
    """Of few values, exactly as far as centroids of one value go."""
    configs = {"quantile": {"*": [0.25, 0.5], "fare": [0.75]}}
    found = result(recipe(configs=configs, min_count=1), tmp_path, workers=workers)
    assert list(found["fare"]["quantile"]["Global"]["train"]) == ["0.75"]
    for share in (0.25, 0.5):
        value = found["age"]["quantile"]["Global"]["test"][f"{share:g}"]
        parts = parts_of("test", "age")
        assert fed_stats.rank_error(parts, share, value) <= bound(share, 200) + 1 / 330
    assert set(found["age"]["quantile"]) == {"site-1", "site-2", "site-4", "Global"}


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "fastdigest", None)
    with pytest.raises(MissingExtra, match=r"flare-async\[stats\]"):
        Digest.of([1.0])


def test_a_run_without_the_library_is_refused_before_it_starts(monkeypatch):
    """Not at the server, when all sites have answered."""
    monkeypatch.setitem(sys.modules, "fastdigest", None)
    with pytest.raises(ConfigError, match="fastdigest is not installed"):
        recipe(configs={"quantile": {"*": [0.5]}})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(FLOATS, st.floats(0.5, 100)), min_size=1), st.floats(0, 300))
def test_coarser_centroids_have_the_same_mass(pairs, least):
    """Or there are none left, where all together are too few."""
    ordered = sorted(pairs)
    digest = Digest(tuple(mean for mean, _ in ordered), tuple(weight for _, weight in ordered))
    coarse = digest.coarsened(least, 20)
    assert len(coarse.means) <= 20
    assert all(weight >= least * (1 - 1e-9) for weight in coarse.weights)
    assert coarse.mass == pytest.approx(digest.mass if coarse.means else 0.0)
    assert coarse.means or digest.mass < least * (1 + 1e-9)


@pytest.mark.parametrize(
    ("means", "weights"),
    [
        ((1.0,), ()),
        ((float("nan"),), (1.0,)),
        ((1.0,), (0.0,)),
        ((1.0,), (float("inf"),)),
        ((2.0, 1.0), (1.0, 1.0)),
    ],
)
def test_centroids_that_are_none_are_refused(means, weights):
    """Whoever makes them."""
    with pytest.raises(ValueError, match=r"centroid|means"):
        Digest(means, weights)


def test_a_digest_of_nothing_has_no_quantile():
    """And needs no library."""
    assert Digest.of([]) == Digest((), ())
    assert Digest.merged([Digest((), ())]).quantile(0.5) is None
    assert Digest((), ()).coarsened(1, 10) == Digest((), ())
