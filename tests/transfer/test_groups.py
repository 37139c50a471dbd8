"""Sums by groups: the bits of a mean of means, whatever the order of arrival."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flare_async.errors import ConfigError
from flare_async.model import ParamsType
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet

SITES = ("a", "b", "c", "d", "e")
GROUPS = (("d", "b"), ("c", "e"))
WEIGHTS = dict(zip(SITES, (1.0, 3.0, 0.5, 7.0, 2.25), strict=True))


def tensors(seed):
    """Return random tensors, one of them of integers."""
    draw = np.random.default_rng(seed)
    params = {"w": draw.normal(size=999).astype(np.float32), "n": draw.integers(0, 99, 7)}
    return TensorSet.from_params(params)


MODEL = tensors(99)
UPDATES = {site: tensors(number) for number, site in enumerate(SITES)}


def mean_of(updates, order, weights=WEIGHTS, arrival=None, **options):
    """Return the mean of whole updates that come in an order of arrival."""
    with WeightedMean(MODEL, order=order, options=MeanOptions(**options)) as mean:
        for site in arrival or order:
            sink = mean.stage(site, weights[site])
            sink.begin(updates[site].specs)
            for spec in updates[site].specs:
                sink.adopt(spec.name, updates[site][spec.name])
            sink.finish()
            mean.commit(site)
        return mean.finish(), mean.statistics


def test_groups_have_the_bits_of_a_mean_of_means():
    """Each group's mean in the model's types, then the means with the groups' weights."""
    found, statistics = mean_of(UPDATES, SITES, groups=GROUPS)
    first, _ = mean_of(UPDATES, ("b", "d"))
    second, _ = mean_of(UPDATES, ("c", "e"))
    parts = {"a": UPDATES["a"], "bd": first, "ce": second}
    weights = {"a": 1.0, "bd": 10.0, "ce": 2.75}
    expected, _ = mean_of(parts, tuple(parts), weights)
    assert found.model_digest() == expected.model_digest()
    assert [site for site, _ in statistics.sites] == ["a", "b", "d", "c", "e"]
    assert statistics.weight == sum(WEIGHTS.values())


def test_groups_agree_with_a_flat_mean_closely():
    """A group's mean is rounded once more, and no more than that."""
    flat, _ = mean_of(UPDATES, SITES)
    found, _ = mean_of(UPDATES, SITES, groups=GROUPS)
    assert np.allclose(found.numpy()["w"], flat.numpy()["w"], rtol=1e-6, atol=1e-6)


def test_the_order_of_arrival_never_enters_a_sum_by_groups():
    """Every permutation gives the same bits."""
    expected = mean_of(UPDATES, SITES, groups=GROUPS)[0].model_digest()
    for arrival in itertools.permutations(SITES):
        found, _ = mean_of(UPDATES, SITES, arrival=arrival, groups=GROUPS)
        assert found.model_digest() == expected


def test_a_group_without_updates_adds_nothing():
    """Its sites were discarded; those that are not of the cohort never were there."""
    with WeightedMean(MODEL, order=SITES, options=MeanOptions(groups=(("b", "c"), ("x",)))) as mean:
        for site in ("b", "c", "e"):
            mean.discard(site)
        for site in ("a", "d"):
            sink = mean.stage(site, 1.0, ParamsType.FULL)
            sink.begin(MODEL.specs)
            for spec in MODEL.specs:
                sink.adopt(spec.name, UPDATES[site][spec.name])
            sink.finish()
            mean.commit(site)
        found = mean.finish()
    weights = dict.fromkeys(SITES, 1.0)
    assert found.model_digest() == mean_of(UPDATES, ("a", "d"), weights)[0].model_digest()


@pytest.mark.parametrize("groups", [(("a", "b"), ("b",)), (("a", "a"),)])
def test_a_site_is_in_one_group_at_most(groups):
    """Else its update would count twice."""
    with pytest.raises(ConfigError, match="groups"):
        WeightedMean(MODEL, order=SITES, options=MeanOptions(groups=groups))
