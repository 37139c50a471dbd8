"""Updates that are wrong in ways that only arithmetic shows: none touches a sum."""

from __future__ import annotations

import asyncio
import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, TransferError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer import spool as spools
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.sums import Share
from tests.transfer.helpers import adopt, fill, numbers, params, staging

FULL = ParamsType.FULL
SINGLE = MeanOptions(accumulator="float32")
ORDER = ("a", "b", "c")
MODEL = params(w=numbers(0), v=numbers(1, 50))
UPDATES = {site: params(w=numbers(at), v=numbers(10 + at, 50)) for at, site in enumerate(ORDER, 2)}
PAIR = [Share("a", 1.0, FULL), Share("b", 1.0, FULL)]


def digest(sites, options=SINGLE, weights=1.5):
    """Return the digest of the mean of some sites."""
    mean = WeightedMean(MODEL, order=sites, options=options)
    for site in sites:
        adopt(mean.stage(site, weights), UPDATES[site])
        mean.commit(site)
    return mean.finish().model_digest()


def value(number, dtype=np.float32):
    """Return a tensor of one value."""
    return params(w=np.array([number], dtype))


def alone(update, weight, options=SINGLE, kind=FULL, model=None):
    """Return the mean of one update of two sites, which must be finite."""
    mean = WeightedMean(model or value(0), order="ab", options=options)
    fill(mean.stage("a", weight, kind), update)
    mean.commit("a")
    found = mean.finish().numpy()["w"]
    assert np.isfinite(found.astype(np.float64)).all()
    return found


@pytest.mark.parametrize("weight", [5e-324, 1e-50, 1e-44, 2.0**-54])
@pytest.mark.parametrize("exact", [False, True])
def test_a_weight_that_leaves_nothing_of_an_update_is_refused(weight, exact):
    """In float32 the products are zero, and zero divided by the weight is no number."""
    options = MeanOptions(exact=True) if exact else SINGLE
    with pytest.raises(UpdateRefused, match=r"weight .* is below"):
        alone(value(1), weight, options)


def test_an_exact_sum_refuses_a_weight_below_its_step():
    """Every value up to one would be rounded to nothing."""
    with pytest.raises(UpdateRefused, match="weight 1e-10 is below"):
        alone(value(1), 1e-10, MeanOptions(exact=True))


@pytest.mark.parametrize(
    ("number", "weight", "dtype", "options"),
    [
        (3e38, 1.0, np.float32, SINGLE),
        (1e30, 1e10, np.float32, SINGLE),
        (1e30, 2.0**53, np.complex64, SINGLE),
        (1e308, 1.0, np.float64, None),
        (1e300, 1e10, np.float64, None),
    ],
)
def test_a_value_that_could_make_a_sum_infinite_is_refused(number, weight, dtype, options):
    """Each site has its part of what the accumulator holds, whoever else is there."""
    with pytest.raises(UpdateRefused, match=r"tensor 'w': its largest value .* of 2 sites"):
        alone(value(number, dtype), weight, options, model=value(0, dtype))


@pytest.mark.parametrize(
    ("dtype", "number"), [(np.float16, 6e4), (np.float32, 3e38), (np.float64, 1.7e308)]
)
def test_a_difference_that_leaves_the_models_type_is_refused(dtype, number):
    """The model would become infinite, and every site with it."""
    model, step = value(number, dtype), value(number / 4, dtype)
    with pytest.raises(UpdateRefused, match="added to the model"):
        alone(step, 1.0, None, ParamsType.DIFF, model)
    assert alone(value(-number / 4, dtype), 0.5, None, ParamsType.DIFF, value(0, dtype)).size


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2),
    st.lists(st.floats(min_value=2**-60, max_value=2.0**54), min_size=2, max_size=2),
    st.sampled_from([FULL, ParamsType.DIFF]),
)
def test_whatever_is_admitted_leaves_a_finite_model(values, weights, kind):
    """Any values, any weights: refused by name, or summed without an overflow."""
    mean, taken = WeightedMean(value(1), order="ab", options=SINGLE), 0
    for site, number, weight in zip("ab", values, weights, strict=True):
        fill(mean.stage(site, weight, kind), value(number))
        try:
            mean.commit(site)
            taken += 1
        except UpdateRefused:
            continue
    if taken:
        assert np.isfinite(mean.finish().numpy()["w"]).all()


def test_numbers_of_numpy_weigh_as_pythons_do():
    """A float64 of NumPy's would choose the type of the division, and with it the bits."""
    assert digest(ORDER, weights=np.float64(1.7)) == digest(ORDER, weights=1.7)


def test_a_tie_to_an_excluded_tensor_hides_no_nan():
    """An update may tie what the model does not; what is added is looked at all the same."""
    bad = np.full(4, np.nan, np.float32)
    model, update = (
        params(a=np.zeros(4, np.float32), b=np.zeros(4, np.float32)),
        params(a=bad, b=bad),
    )
    assert update.aliases
    mean = WeightedMean(model, order="x", options=MeanOptions(exclude="^a$", max_norm=9.0))
    adopt(mean.stage("x", 1.0), update)
    with pytest.raises(UpdateRefused, match=r"tensor 'b': .* not finite"):
        mean.commit("x")


@pytest.mark.parametrize("whole", [True, False])
def test_an_update_that_came_alone_as_well_is_not_added_to_the_sum_that_has_it(whole):
    """One contribution a site, whatever was staged before."""
    mean = WeightedMean(value(0), order="ab")
    if whole:
        fill(mean.stage("b", 1.0), value(8))
    else:
        mean.stage("b", 1.0).begin(value(0).specs)
    fill(mean.stage_partial(PAIR), value(2))
    for _ in mean.admitting_partial(PAIR):
        pass
    assert mean.finish().numpy()["w"] == [2]
    assert mean.statistics.sites == (("a", 1.0), ("b", 1.0))


def test_a_partial_sum_is_not_committed_as_one_sites_update():
    """The others of its sites would be added a second time."""
    mean = WeightedMean(value(0), order="ab")
    fill(mean.stage_partial(PAIR), value(2))
    with pytest.raises(LocalProtocolError, match="a sum of several sites"):
        mean.commit("a")
    with pytest.raises(LocalProtocolError, match="no update of it was checked"):
        mean.accept("a")


def test_what_was_not_checked_is_not_accepted():
    """Neither nothing, nor an update that took the place of the one that was."""
    mean = WeightedMean(value(0), order="ab")
    with pytest.raises(LocalProtocolError, match="no update of it was checked"):
        mean.accept("a")
    fill(mean.stage("a", 1.0), value(1))
    list(mean.checking("a"))
    fill(mean.stage("a", 1.0), value(float("inf")))
    with pytest.raises(LocalProtocolError, match="no update of it was checked"):
        mean.accept("a")


@pytest.mark.parametrize("exact", [False, True])
def test_each_weight_in_a_partial_sum_is_checked_and_not_their_total(exact):
    """Two admissible weights may be above the limit together; a negative one hides in no total."""
    options, total = MeanOptions(exact=exact, scale_bits=4), value(2)
    if exact:
        total = params(w=np.array([2 * 2**54 * 16 // 2**20], np.int64))
    heavy = [Share("a", 2.0**53, FULL), Share("b", 2.0**53, FULL)]
    for shares, problem in (
        ([Share("a", -1.0, FULL), Share("b", 3.0, FULL)], "a: weight"),
        (heavy, ""),
    ):
        mean = WeightedMean(value(0), order="ab", options=options)
        fill(mean.stage_partial(shares), total)
        if problem:
            with pytest.raises(UpdateRefused, match=problem):
                list(mean.admitting_partial(shares))
        else:
            list(mean.admitting_partial(shares))
            assert np.isfinite(mean.finish().numpy()["w"]).all()


def test_a_repulled_mean_leaves_out_what_could_make_it_infinite():
    """The others' bits are those of a mean without that site."""
    given_ = {"a": value(1e30), "b": value(3)}
    mean = RepulledMean(value(0), order="ab", options=SINGLE)
    for site, weight in (("a", 1e10), ("b", 2.0)):
        fill(mean.stage(site, weight), given_[site])
        mean.commit(site)

    async def pull(site, names, sink):
        fill(sink, given_[site])

    assert asyncio.run(mean.pull_again(pull)).numpy()["w"] == [3]
    assert list(mean.lost) == ["a"]
    tiny = RepulledMean(value(0), order="a", options=SINGLE)
    fill(tiny.stage("a", 1e-50), value(1))
    with pytest.raises(UpdateRefused, match="below"):
        tiny.commit("a")


@pytest.mark.parametrize("budget", [0, 1 << 20])
@pytest.mark.parametrize("gone", ["a", "b", "c", None])
@pytest.mark.parametrize("arrival", ["abc", "cba", "bca"])
def test_the_first_site_lands_in_the_sum_and_changes_no_bit(budget, gone, arrival, tmp_path):
    """Its memory becomes the accumulator; refused, it has touched nothing."""
    options = MeanOptions(accumulator="float32", spool_folder=tmp_path)
    mean = WeightedMean(MODEL, order=ORDER, limits=staging(budget), options=options)
    for site in arrival:
        bad = params(w=numbers(9) * np.float32(np.nan), v=numbers(9, 50))
        fill(mean.stage(site, 1.5), bad if site == gone else UPDATES[site])
        if site == gone:
            with pytest.raises(UpdateRefused):
                mean.commit(site)
        else:
            mean.commit(site)
    kept = [site for site in ORDER if site != gone]
    assert mean.finish().model_digest() == digest(kept)
    most = MODEL.nbytes * (len(ORDER) - (arrival[0] == "a"))
    assert mean.statistics.spilled_bytes + mean.statistics.staged_bytes <= most


def test_a_first_update_that_is_staged_again_gets_memory_of_its_own():
    """Whoever still writes the former one writes to nothing."""
    mean = WeightedMean(MODEL, order=ORDER, limits=staging(0), options=SINGLE)
    former = mean.stage("a", 1.5)
    former.begin(MODEL.specs)
    lost = former.destination("w", 0, 64)
    for site in ORDER:
        fill(mean.stage(site, 1.5), UPDATES[site])
        lost[:] = b"\xff" * 64
        mean.commit(site)
    assert mean.finish().model_digest() == digest(ORDER)


def test_minus_zero_is_summed_as_ever_where_it_landed():
    """Zero plus minus zero is zero, in place as well."""
    model = params(w=np.zeros(3, np.float32))
    update = params(w=np.array([-0.0, 0.0, 1e-45], np.float32))
    bits = []
    for give in (fill, adopt):
        mean = WeightedMean(model, order="a", options=SINGLE)
        give(mean.stage("a", 0.25), update)
        mean.commit("a")
        bits.append(bytes(mean.finish()["w"]))
    assert bits[0] == bits[1]


@pytest.mark.parametrize("pieces", [1, 3, 64])
def test_pieces_that_cut_values_are_read_again(pieces):
    """What was not seen whole as it landed is looked at when it is admitted."""
    bad = params(w=np.where(np.arange(100) == 63, np.inf, 1).astype(np.float32))
    mean = WeightedMean(params(w=np.zeros(100, np.float32)), order="ab")
    sinks = mean.stage("a", 1.0), mean.stage("b", 1.0)
    fill(sinks[0], bad, pieces)
    with pytest.raises(UpdateRefused, match="bytes 0 to 400 is not finite"):
        mean.commit("a")
    good = params(w=np.ones(100, np.float32))
    fill(sinks[1], good, pieces)
    mean.commit("b")
    assert mean.finish().model_digest() == good.model_digest()


def test_bytes_that_were_taken_back_are_not_believed():
    """A range that is mended may bring other values than those that were seen."""
    mean = WeightedMean(params(w=np.zeros(4, np.float32)), order="a")
    sink = mean.stage("a", 1.0)
    sink.begin(params(w=np.zeros(4, np.float32)).specs)
    sink.write("w", 0, np.ones(4, np.float32).view(np.uint8).data)
    sink.reject("w", 0, 16)
    sink.write("w", 0, np.full(4, np.nan, np.float32).view(np.uint8).data)
    sink.finish()
    with pytest.raises(UpdateRefused, match="not finite"):
        mean.commit("a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate"])
def test_a_disk_that_refuses_loses_that_update_alone(tmp_path, monkeypatch, number, call):
    """A typed error; the site stays open, and what was admitted is in the sum."""
    options = MeanOptions(accumulator="float32", spool_folder=tmp_path)
    model = params(w=np.zeros(1 << 18, np.float32))
    mean = WeightedMean(model, order="ab", limits=staging(0), options=options)
    fill(mean.stage("a", 1.0), params(w=np.ones(1 << 18, np.float32)), 1 << 20)
    mean.commit("a")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(spools, "_ALLOCATING", frozenset({spools.file_system_of(tmp_path)}))
        patch.setattr(os, call, refuse)
        sink = mean.stage("b", 1.0)
        with pytest.raises(TransferError, match="spool"):
            fill(sink, params(w=np.ones(1 << 18, np.float32)), 1 << 20)
        sink.discard()
    fill(mean.stage("b", 1.0), params(w=np.full(1 << 18, 3, np.float32)), 1 << 20)
    mean.commit("b")
    assert mean.finish().numpy()["w"][0] == 2
