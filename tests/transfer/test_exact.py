"""Exact sums: whole numbers, the same bits in any order and any grouping, never an overflow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, LocalProtocolError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.sums import Share
from flare_async.transfer.tensors import TensorSet

SITES = ("a", "b", "c", "d", "e")
WEIGHTS = dict(zip(SITES, (1.0, 3.1, 0.7, 1e4, 2.25), strict=True))
KINDS = dict.fromkeys(SITES, ParamsType.FULL) | {"b": ParamsType.DIFF, "e": ParamsType.DIFF}
EXACT = MeanOptions(exact=True)


def tensors(seed):
    """Return random tensors of four types, one of them empty."""
    draw = np.random.default_rng(seed)
    return TensorSet.from_params(
        {
            "w": draw.normal(size=(37, 27)).astype(np.float32),
            "h": draw.normal(size=50).astype(np.float16),
            "n": draw.integers(0, 99, 7),
            "none": np.zeros((0, 3)),
        }
    )


MODEL = tensors(99)
UPDATES = {site: tensors(number) for number, site in enumerate(SITES)}


def fill(sink, given):
    """Let a sink adopt tensors."""
    sink.begin(given.specs, given.aliases)
    for spec in given.specs:
        if spec.name not in given.aliases:
            sink.adopt(spec.name, given[spec.name])
    sink.finish()


def commit(mean, sites, kinds=KINDS):
    """Stage and commit the updates of some sites."""
    for site in sites:
        fill(mean.stage(site, WEIGHTS[site], kinds[site]), UPDATES[site])
        mean.commit(site)


def partial_of(sites, rules):
    """Return what a relay makes of its sites."""
    with WeightedMean(MODEL, order=sites, options=MeanOptions.of(rules)) as mean:
        commit(mean, sites)
        return mean.partial()


def take(mean, sites, partial):
    """Stage and commit a partial sum."""
    shares = [Share(site, WEIGHTS[site], KINDS[site]) for site in sites]
    fill(mean.stage_partial(shares), partial)
    for _ in mean.admitting_partial(shares):
        pass


def flat(options=EXACT):
    """Return the mean of all sites, one by one."""
    with WeightedMean(MODEL, order=SITES, options=options) as mean:
        commit(mean, SITES)
        return mean.finish(), mean.statistics


@settings(deadline=None, max_examples=40)
@given(st.permutations(SITES), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_an_exact_sum_has_the_same_bits_in_any_order_and_grouping(order, numbers):
    """Group 0 comes one by one, the others as partial sums of whole numbers."""
    groups = {}
    for site, number in zip(order, numbers, strict=True):
        groups.setdefault(number, []).append(site)
    with WeightedMean(MODEL, order=order, options=EXACT) as mean:
        rules = mean.group([sites for number, sites in groups.items() if number])
        for number, sites in groups.items():
            if number:
                take(mean, sites, partial_of(sites, rules))
            else:
                commit(mean, sites)
        found = mean.finish()
        statistics = mean.statistics
    expected, whole = flat()
    assert found.model_digest() == expected.model_digest()
    assert dict(statistics.sites) == WEIGHTS
    assert statistics.weight == whole.weight


def test_an_exact_sum_agrees_with_the_usual_one():
    """Steps of 2**-32 are finer than the model's types."""
    exact, usual = flat()[0].numpy(), flat(MeanOptions())[0].numpy()
    assert np.allclose(exact["w"], usual["w"], rtol=1e-6, atol=1e-6)
    assert np.allclose(exact["h"], usual["h"], rtol=1e-3, atol=1e-3)
    assert np.abs(exact["n"] - usual["n"]).max() <= 1


def test_an_update_that_could_overflow_is_refused_by_name_and_touches_nothing():
    """Each of n sites has the n-th part of what int64 holds, whoever else is there."""
    model = TensorSet.from_params({"w": np.zeros(3, np.float32), "v": np.zeros(1, np.float32)})
    most = 2**63 // 4 / 2**32
    good, bad = (
        {"w": np.full(3, value, np.float32), "v": np.ones(1, np.float32)}
        for value in (most / 2, most * 1.01)
    )
    with WeightedMean(model, order="abcd", options=EXACT) as mean:
        for site in "ab":
            fill(
                mean.stage(site, 2.0 if site == "a" else 1.99),
                TensorSet.from_params(bad if site == "b" else good),
            )
            if site == "b":
                with pytest.raises(UpdateRefused, match=r"'w': weight times value .* of 4 sites"):
                    mean.commit(site)
        mean.discard("b")
        fill(mean.stage("c", 1.0), TensorSet.from_params(good))
        mean.commit("c")
        assert mean.finish().numpy()["w"].tolist() == [most / 2] * 3


def test_a_partial_sum_of_more_than_its_sites_may_bring_is_refused():
    """So no relay can make the total overflow; its sites stay open."""
    with WeightedMean(MODEL, order=SITES, options=EXACT) as mean:
        rules = mean.group([("a", "b")])
        params = partial_of(("a", "b"), rules).numpy()
        params["w"] = params["w"].copy()
        params["w"][5] = -(2**63 // 5 * 2 + 1)
        with pytest.raises(UpdateRefused, match="'w'"):
            take(mean, ("a", "b"), TensorSet.from_params(params))
        commit(mean, SITES)
        assert mean.finish().model_digest() == flat()[0].model_digest()


def test_a_partial_sum_is_refused_whole_when_one_of_its_sites_is_settled():
    """Nothing counts twice, in whatever order they come."""
    with WeightedMean(MODEL, order=SITES, options=EXACT) as mean:
        partial = partial_of(("a", "b"), mean.group([("a", "b")]))
        shares = [Share(site, WEIGHTS[site], KINDS[site]) for site in "ab"]
        fill(mean.stage_partial(shares), partial)
        commit(mean, "b")
        with pytest.raises(LocalProtocolError, match="b: is committed already"):
            list(mean.admitting_partial(shares))
        commit(mean, "acde")
        assert mean.finish().model_digest() == flat()[0].model_digest()


def test_a_mean_of_groups_takes_partial_means_to_the_same_bits():
    """A relay's mean of its sites is what the server would have made of them."""
    groups = (("d", "b"), ("c", "e"))
    with WeightedMean(MODEL, order=SITES) as mean:
        rules = mean.group(groups)
        for sites in (("c", "e"), ("b", "d")):
            take(mean, sites, partial_of(sites, rules))
        commit(mean, "a")
        found, statistics = mean.finish(), mean.statistics
    expected, _ = flat(MeanOptions(groups=groups))
    assert found.model_digest() == expected.model_digest()
    assert [site for site, _ in statistics.sites] == ["a", "b", "d", "c", "e"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"scale_bits": 61}, "scale_bits"),
        ({"scale_bits": -1}, "scale_bits"),
        ({"exact_sites": 0}, "exact_sites"),
        ({"exact": True, "accumulator": "float32"}, "accumulator"),
    ],
)
def test_options_that_cannot_be_are_refused(options, field):
    """The error names the option."""
    with pytest.raises(ConfigError) as caught:
        MeanOptions(**options)
    assert caught.value.field == field


def test_a_mean_that_is_pulled_again_has_no_exact_sum():
    """It is said when it is made, not found out from its bits."""
    with pytest.raises(ConfigError, match="exact"):
        RepulledMean(MODEL, order=SITES, options=EXACT)


def test_a_mean_is_grouped_before_it_begins_or_not_at_all():
    """Groups that the options name are the user's, and stay."""
    mean = WeightedMean(MODEL, order=SITES)
    commit(mean, "a")
    with pytest.raises(LocalProtocolError, match="begun"):
        mean.group([("a", "b")])
    assert WeightedMean(MODEL, order=SITES, options=MeanOptions(groups=["ab"])).group([]) is None
