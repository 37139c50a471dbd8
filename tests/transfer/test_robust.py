"""Robust means against plain references, whatever the order, the staging and the types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, LocalProtocolError, TransferError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.reducer import GroupReducer, SteppedReducer
from flare_async.transfer.robust import RobustMean
from flare_async.transfer.robust_rules import Krum, Median, TrimmedMean, robust_rule
from flare_async.transfer.tensors import TensorSet
from tests.references import robust as reference
from tests.transfer.helpers import adopt, fill, numbers, params, staging

SITES = [f"s{number}" for number in range(7)]
MODEL = params(w=numbers(0), b=numbers(100, 3))
UPDATES = {site: params(w=numbers(at), b=numbers(100 + at, 3)) for at, site in enumerate(SITES, 1)}
RULES = [Median(), TrimmedMean(0.3), Krum(f=2), Krum(f=1, m=3)]


def run(rule, updates=None, *, order=SITES, arrivals=None, budget=1 << 26, give=fill, **options):
    """Return the robust mean of updates, as arrays."""
    found = UPDATES if updates is None else updates
    model = options.pop("model", MODEL)
    kind = options.pop("kind", ParamsType.FULL)
    made = MeanOptions(**options) if options else None
    with RobustMean(model, rule, order=order, limits=staging(budget), options=made) as mean:
        for site in arrivals or found:
            give(mean.stage(site, 1.0, kind), found[site])
            mean.commit(site)
        return mean.finish().numpy()


def expected(rule, name, sites=SITES):
    """Return the reference for one tensor of the updates."""
    arrays = [UPDATES[site].numpy()[name] for site in sites]
    if isinstance(rule, Median):
        return reference.median(arrays)
    if isinstance(rule, TrimmedMean):
        return reference.trimmed_mean(arrays, rule.beta)
    vectors = [flat(UPDATES[site]) for site in sites]
    places = sorted(reference.krum_order(vectors, rule.f)[: rule.m])
    return np.mean([arrays[place].astype(np.float64) for place in places], axis=0)


def flat(tensors):
    """Return a model as one vector."""
    return np.concatenate([array.ravel() for array in tensors.numpy().values()])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_rule_equals_its_reference(rule):
    """To the last bit of float32: both are computed in float64."""
    found = run(rule)
    for name in ("w", "b"):
        assert np.array_equal(found[name], expected(rule, name).astype(np.float32)), name


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_neither_arrival_nor_staging_changes_a_bit(rule):
    """In memory, by reference, and in a spool file of which little is in memory."""
    bits = {
        run(rule, arrivals=arrivals, budget=budget, give=give)["w"].tobytes()
        for arrivals in ([*SITES], [*reversed(SITES)], [*SITES[3:], *SITES[:3]])
        for budget in (1 << 26, 1000, 0)
        for give in (fill, adopt)
    }
    assert len(bits) == 1


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_difference_counts_as_the_model_that_it_leads_to(rule):
    """Exactly where nothing is rounded, as with whole numbers."""
    model = params(w=np.arange(12, dtype=np.float32))
    whole = {s: params(w=np.arange(12, dtype=np.float32) * i) for i, s in enumerate(SITES)}
    diffs = {s: params(w=whole[s].numpy()["w"] - model.numpy()["w"]) for s in SITES}
    plain = run(rule, whole, model=model)["w"]
    assert np.array_equal(run(rule, diffs, model=model, kind=ParamsType.DIFF)["w"], plain)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_sites_that_are_not_there_are_left_out(rule):
    """Discarded or never settled, they have no part in it."""
    sites = SITES[:3] + SITES[4:]
    with RobustMean(MODEL, rule, order=SITES) as mean:
        for site in sites:
            fill(mean.stage(site, 1.0), UPDATES[site])
            if site != "s6" or not isinstance(rule, Median):
                mean.commit(site)
        if not isinstance(rule, Krum) or rule.least <= 6:
            found = mean.finish().numpy()["w"]
            there = sites[:-1] if isinstance(rule, Median) else sites
            assert np.array_equal(found, expected(rule, "w", there).astype(np.float32))


def test_one_site_that_sends_nonsense_moves_nothing_far():
    """A mean would be millions away."""
    sane = {s: params(w=np.full(8, 1.0 + i / 100, np.float32)) for i, s in enumerate(SITES)}
    sane["s2"] = params(w=np.full(8, 1e7, np.float32))
    model = params(w=np.zeros(8, np.float32))
    for rule in RULES:
        assert abs(run(rule, sane, model=model)["w"] - 1).max() < 0.1, rule


def test_krum_says_whom_it_chose():
    """In the order of the cohort."""
    mean = RobustMean(MODEL, Krum(f=1, m=3), order=SITES)
    for site in reversed(SITES):
        fill(mean.stage(site, 1.0), UPDATES[site])
        mean.commit(site)
    mean.finish()
    places = reference.krum_order([flat(UPDATES[site]) for site in SITES], 1)[:3]
    assert mean.chosen == tuple(SITES[place] for place in sorted(places))


def test_krum_looks_at_the_nearest_only():
    """One between the others and those that lie together is near to nobody."""
    values = (0.0, 0.125, 0.25, 0.5, 30.0, 100.0, 100.0)
    sets = {s: params(w=np.float32([v])) for s, v in zip(SITES, values, strict=True)}
    found = run(Krum(f=2), sets, model=params(w=np.zeros(1, np.float32)))["w"]
    assert found.tolist() == [0.25]


@given(st.integers(5, 9), st.integers(0, 2), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_krum_equals_its_definition_also_where_updates_are_equal(count, f, m, seed):
    """Small whole numbers make ties and duplicates."""
    rule = Krum(f=f, m=m)
    order = [f"s{at}" for at in range(max(count, rule.least))]
    generator = np.random.default_rng(seed)
    arrays = {site: generator.integers(-1, 2, 4).astype(np.float32) for site in order}
    sets = {site: params(w=array) for site, array in arrays.items()}
    found = run(rule, sets, order=order, model=params(w=np.zeros(4, np.float32)))["w"]
    wanted = reference.multi_krum([arrays[site] for site in order], f, m)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)


def test_types_of_all_kinds_keep_their_types():
    """Half precision, integers and truth values are computed in float64 and rounded once."""
    values = [np.array([number, 2, 7 - number]) for number in range(5)]
    kinds = {"f16": np.float16, "i64": np.int64, "u8": np.uint8, "f64": np.float64}
    order = SITES[:5]
    sets = {
        site: TensorSet.from_params(
            {**{name: value.astype(kind) for name, kind in kinds.items()}, "flag": value > 2}
        )
        for site, value in zip(order, values, strict=True)
    }
    found = run(Median(), sets, order=order, model=sets["s0"])
    assert {name: found[name].tolist() for name in kinds} == {name: [2, 2, 5] for name in kinds}
    assert found["flag"].tolist() == [False, False, True]


def test_large_tensors_are_read_in_chunks():
    """More than a MiB a tensor, from the spool, with a remainder."""
    order = SITES[:3]
    sets = {s: params(w=np.full(300_001, at, np.float32)) for at, s in enumerate(order)}
    found = run(Median(), sets, order=order, model=sets["s0"], budget=1000, give=big)["w"]
    assert (found == 1).all()


def big(sink, tensors):
    """Fill a sink in pieces of 100 kB."""
    fill(sink, tensors, piece=100_000)


def test_excluded_tensors_keep_the_value_of_the_model():
    """And count for no distance."""
    found = run(Krum(f=1), exclude="^b$")
    vectors = [UPDATES[site].numpy()["w"].ravel() for site in SITES]
    best = SITES[reference.krum_order(vectors, 1)[0]]
    assert np.array_equal(found["w"], UPDATES[best].numpy()["w"])
    assert np.array_equal(found["b"], MODEL.numpy()["b"])


def test_what_is_not_finite_is_refused_and_the_site_settled():
    """As by a weighted mean."""
    mean = RobustMean(MODEL, Median(), order=SITES)
    fill(mean.stage("s0", 1.0), params(w=numbers(1) * np.float32(np.nan), b=numbers(2, 3)))
    with pytest.raises(UpdateRefused, match="not finite"):
        mean.commit("s0")
    with pytest.raises(LocalProtocolError, match="discarded"):
        mean.stage("s0", 1.0)


def test_a_rule_says_how_many_updates_it_needs():
    """Krum needs 2 f + 3 of them, and more where it takes the mean of many."""
    assert [rule.least for rule in (*RULES, Krum(f=0, m=6))] == [1, 1, 7, 6, 8]
    with pytest.raises(LocalProtocolError, match="needs 7 updates, 6 were committed"):
        run(Krum(f=2), arrivals=SITES[:6])


def test_it_is_a_reducer_in_steps_that_takes_no_sums_of_relays():
    """Relays pass updates on one by one."""
    mean = RobustMean(MODEL, Median(), order=SITES)
    assert isinstance(mean, SteppedReducer)
    assert not isinstance(mean, GroupReducer)
    mean.stage("s1", 1.0)
    with pytest.raises(TransferError, match="not whole"):
        mean.commit("s1")
    with pytest.raises(LocalProtocolError, match="nothing is staged"):
        mean.commit("s2")
    mean.close()
    for call in (mean.finish, lambda: mean.stage("s3", 1.0)):
        with pytest.raises(LocalProtocolError, match="has ended"):
            call()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: TrimmedMean(0.5), "beta"),
        (lambda: TrimmedMean(float("nan")), "beta"),
        (lambda: Krum(f=-1), "f"),
        (lambda: Krum(m=0), "m"),
        (lambda: robust_rule("mode"), "aggregator"),
        (lambda: run(Median(), exact=True), "exact"),
    ],
)
def test_what_cannot_be_is_named(make, field):
    """At construction."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_rules_have_names():
    """For ``aggregator=``; what is no rule is somebody else's."""
    found = [robust_rule(name) for name in ("median", "trimmed_mean", "krum")]
    assert found == [Median(), TrimmedMean(0.1), Krum(f=1)]
    assert robust_rule(object()) is None


def test_trimming_counts_whole_updates():
    """0.29 of 100 are 29, though the product is a little less."""
    block = np.tile(np.arange(100.0)[:, None], (1, 2))
    block[:29], block[71:] = -1e9, 1e8
    assert TrimmedMean(0.29).combine(block).tolist() == [49.5, 49.5]
    assert TrimmedMean(0.28).combine(block).max() < -1e6
