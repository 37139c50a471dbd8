"""The contracts of SUMS.md 1 and 2: order, staging, admission."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, LocalProtocolError, TransferError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import adopt, fill, numbers, params, staging

SITES = [f"site-{number}" for number in range(1, 9)]
WEIGHTS = dict(zip(SITES, [3, 1, 7, 2.5, 4, 1, 9, 1e3], strict=True))
MODEL = params(w=numbers(0), b=numbers(100, 3))
UPDATES = {site: params(w=numbers(at), b=numbers(100 + at, 3)) for at, site in enumerate(SITES, 1)}


def run(arrivals, *, budget=1 << 26, options=None, give=fill, order=SITES):
    """Return the bytes of the mean of updates that arrive in that order."""
    mean = WeightedMean(MODEL, order=order, limits=staging(budget), options=options)
    for site in arrivals:
        give(mean.stage(site, WEIGHTS[site]), UPDATES[site])
        mean.commit(site)
    return bytes_of(mean.finish())


def bytes_of(tensors):
    """Return comparable content."""
    return {name: bytes(view) for name, view in tensors.items()}


def reference(sites, dtype):
    """Return the same mean, written down plainly."""
    sums = {}
    for name, array in MODEL.numpy().items():
        total = np.zeros(array.shape, dtype)
        for site in sites:
            total += UPDATES[site].numpy()[name].astype(dtype) * dtype(WEIGHTS[site])
        total /= dtype(sum(WEIGHTS[site] for site in sites))
        sums[name] = total.astype(array.dtype).tobytes()
    return sums


@settings(max_examples=40, deadline=None)
@given(st.permutations(SITES))
def test_any_order_of_arrival_gives_the_same_bits(arrivals):
    """Arrival never enters the sum: float32 sums would differ in half of their elements."""
    options = MeanOptions(accumulator="float32")
    assert run(arrivals, options=options) == reference(SITES, np.float32)


@pytest.mark.parametrize(("option", "dtype"), [(None, np.float64), ("float32", np.float32)])
def test_the_mean_is_the_plain_one_in_cohort_order(option, dtype):
    """A small model is summed in float64 unless float32 is asked for."""
    assert run(SITES, options=MeanOptions(accumulator=option)) == reference(SITES, dtype)


def test_another_cohort_order_gives_other_bits():
    """Otherwise the tests above would prove nothing."""
    options = MeanOptions(accumulator="float32")
    assert run(SITES, options=options, order=SITES[::-1]) != reference(SITES, np.float32)


@settings(max_examples=20, deadline=None)
@given(st.permutations(SITES), st.sets(st.sampled_from(SITES), max_size=7))
def test_a_discarded_site_equals_a_run_without_it(arrivals, gone):
    """Discarded before, during or after staging: it has touched nothing."""
    mean = WeightedMean(MODEL, order=SITES, options=MeanOptions(accumulator="float32"))
    for site in arrivals:
        fill(mean.stage(site, WEIGHTS[site]), UPDATES[site])
        if site in gone:
            mean.discard(site)
        else:
            mean.commit(site)
    kept = [site for site in SITES if site not in gone]
    assert bytes_of(mean.finish()) == reference(kept, np.float32)
    assert mean.statistics.sites == tuple((site, WEIGHTS[site]) for site in kept)


def test_sites_that_never_come_count_as_discarded():
    """The round ended without them."""
    assert run(SITES[2:5]) == reference(SITES[2:5], np.float64)


def test_an_update_with_nan_is_refused_and_the_bits_stay():
    """Admission comes before the sum."""
    mean = WeightedMean(MODEL, order=SITES)
    poisoned = UPDATES[SITES[1]].copy().numpy()
    values = dict(poisoned) | {"w": np.where(poisoned["w"] == poisoned["w"][3, 2], np.nan, 0)}
    values["w"] = values["w"].astype(np.float32)
    for site in SITES[:3]:
        update = TensorSet.from_params(values) if site == SITES[1] else UPDATES[site]
        fill(mean.stage(site, WEIGHTS[site]), update)
    with pytest.raises(UpdateRefused, match=r"site-2, tensor 'w'.*not finite"):
        mean.commit(SITES[1])
    mean.commit(SITES[0])
    mean.commit(SITES[2])
    assert bytes_of(mean.finish()) == reference([SITES[0], SITES[2]], np.float64)


@pytest.mark.parametrize("budget", [0, 800, 2000])
def test_a_spool_beyond_the_budget_gives_the_same_bits(budget, tmp_path):
    """The first site comes last, so that all others wait."""
    mean = WeightedMean(
        MODEL,
        order=SITES,
        limits=staging(budget),
        options=MeanOptions(spool_folder=tmp_path),
    )
    for site in SITES[::-1]:
        fill(mean.stage(site, WEIGHTS[site]), UPDATES[site])
        mean.commit(site)
    assert bytes_of(mean.finish()) == reference(SITES, np.float64)
    seen = mean.statistics
    assert seen.staged_bytes <= budget
    assert seen.spilled_bytes >= 8 * MODEL.nbytes - budget
    assert list(tmp_path.iterdir()) == []


def test_adopted_updates_need_neither_memory_nor_spool():
    """Over a memory link a staged update is a reference."""
    mean = WeightedMean(MODEL, order=SITES, limits=staging(0))
    for site in SITES[::-1]:
        adopt(mean.stage(site, WEIGHTS[site]), UPDATES[site])
        mean.commit(site)
    assert bytes_of(mean.finish()) == reference(SITES, np.float64)
    seen = mean.statistics
    assert (seen.staged_bytes, seen.spilled_bytes) == (0, 0)
    assert seen.referenced_bytes == 8 * MODEL.nbytes


def test_staged_memory_is_given_back_as_the_sum_goes_on():
    """In cohort order no more than one update is ever staged."""
    mean = WeightedMean(MODEL, order=SITES, limits=staging(MODEL.nbytes))
    for site in SITES:
        fill(mean.stage(site, 1.0), UPDATES[site])
        mean.commit(site)
    assert mean.statistics.staged_bytes == MODEL.nbytes
    assert mean.statistics.spilled_bytes == 0


def test_diffs_are_added_to_the_model():
    """The mean of the diffs moves the model."""
    mean = WeightedMean(MODEL, order=SITES[:2], options=MeanOptions(params_type=ParamsType.DIFF))
    for site in SITES[:2]:
        fill(mean.stage(site, WEIGHTS[site]), UPDATES[site])
        mean.commit(site)
    moved = reference_sum(SITES[:2]) / 4 + MODEL.numpy()["w"].astype(np.float64)
    assert bytes(mean.finish()["w"]) == moved.astype(np.float32).tobytes()


def reference_sum(sites):
    """Return the weighted sum of w in double precision."""
    total = np.zeros(MODEL.spec("w").shape)
    for site in sites:
        total += WEIGHTS[site] * UPDATES[site].numpy()["w"].astype(np.float64)
    return total


def test_whole_updates_and_diffs_may_be_mixed():
    """A diff counts as the model plus the diff."""
    mean = WeightedMean(params(w=np.full(2, 10.0)), order=["a", "b"])
    fill(mean.stage("a", 3.0), params(w=np.array([2.0, 6.0])))
    fill(mean.stage("b", 1.0, ParamsType.DIFF), params(w=np.array([4.0, -2.0])))
    mean.commit("b")
    mean.commit("a")
    assert mean.finish().numpy()["w"].tolist() == [(6 + 14) / 4, (18 + 8) / 4]


def test_diffs_of_unsigned_integers_are_signed():
    """Going down by one is stored as the largest number."""
    mean = WeightedMean(params(n=np.array([10, 10], np.uint8)), order=["a", "b"])
    for site, change in (("a", [255, 4]), ("b", [253, 2])):
        fill(mean.stage(site, 1, ParamsType.DIFF), params(n=np.array(change, np.uint8)))
        mean.commit(site)
    assert mean.finish().numpy()["n"].tolist() == [8, 13]


def test_a_weighted_mean_is_a_reducer():
    """Recipes depend on the protocol only."""
    reducer: Reducer = WeightedMean(MODEL, order=SITES)
    fill(reducer.stage(SITES[0], 2.0), UPDATES[SITES[0]])
    reducer.commit(SITES[0])
    assert bytes_of(reducer.finish()) == bytes_of(UPDATES[SITES[0]])


MIXED = {
    "i64": (np.array([1, -7], np.int64), np.array([4, -8], np.int64), [2, -7]),
    "u8": (np.array([254], np.uint8), np.array([255], np.uint8), [254]),
    "flag": (np.array([True, False]), np.array([False, False]), [True, False]),
    "half": (np.array([1.0], np.float16), np.array([4.0], np.float16), [1.75]),
    "brain": (
        np.array([1.0], ml_dtypes.bfloat16),
        np.array([4.0], ml_dtypes.bfloat16),
        [1.75],
    ),
    "eight": (
        np.array([1.0], ml_dtypes.float8_e4m3fn),
        np.array([4.0], ml_dtypes.float8_e4m3fn),
        [1.75],
    ),
    "wave": (np.array([1 + 2j], np.complex64), np.array([5 - 2j], np.complex64), [2 + 1j]),
    "none": (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), []),
    "scalar": (np.float64(1.0), np.float64(2.0), 1.25),
}


@pytest.mark.parametrize("accumulator", ["float32", "float64"])
@pytest.mark.parametrize("name", MIXED)
def test_every_type_is_averaged_in_its_own_way(name, accumulator):
    """Weights three to one; integers round to the nearest, truth goes by the majority."""
    first, second, expected = MIXED[name]
    options = MeanOptions(accumulator=accumulator)
    mean = WeightedMean(params(x=first), order=["a", "b"], options=options)
    fill(mean.stage("a", 3), params(x=first))
    fill(mean.stage("b", 1), params(x=second))
    mean.commit("a")
    mean.commit("b")
    result = mean.finish()
    assert result.spec("x") == params(x=first).spec("x")
    assert result.numpy()["x"].tolist() == expected


def test_large_integers_keep_their_value_whatever_the_accumulator():
    """float32 would lose the last digits of a step counter."""
    counter = np.array([2**40 + 1], np.int64)
    mean = WeightedMean(params(n=counter), order=["a"], options=MeanOptions(accumulator="float32"))
    fill(mean.stage("a", 2), params(n=counter))
    mean.commit("a")
    assert mean.finish().numpy()["n"].tolist() == [2**40 + 1]


def test_tied_tensors_stay_tied_and_are_summed_once():
    """A site may send them tied or twice."""
    shared = numbers(1, 4)
    model = TensorSet.from_params({"in": shared, "out": shared})
    mean = WeightedMean(model, order=["a", "b"])
    fill(mean.stage("a", 1), model)
    fill(mean.stage("b", 1), TensorSet.from_params({"in": shared + 2, "out": shared + 2}))
    mean.commit("a")
    mean.commit("b")
    result = mean.finish()
    assert result.aliases == {"out": "in"}
    assert result["in"] == result["out"]
    assert np.allclose(result.numpy()["in"], shared + 1)


def test_excluded_tensors_keep_the_models_value():
    """Their bytes in an update are ignored, even when they are not finite, and may be missing."""
    model = params(w=np.ones(2), running_mean=np.zeros(2))
    mean = WeightedMean(model, order=["a", "b"], options=MeanOptions(exclude="^running"))
    fill(mean.stage("a", 1), params(w=np.full(2, 3.0), running_mean=np.full(2, np.nan)))
    fill(mean.stage("b", 1), params(w=np.full(2, 5.0)))
    mean.commit("a")
    mean.commit("b")
    result = mean.finish().numpy()
    assert result["w"].tolist() == [4, 4]
    assert result["running_mean"].tolist() == [0, 0]


def test_a_foreign_layout_is_refused_before_any_byte_is_staged():
    """A site could otherwise fill the disk with a model of its own."""
    mean = WeightedMean(MODEL, order=SITES)
    sink = mean.stage(SITES[0], 1)
    with pytest.raises(UpdateRefused, match=r"site-1: .*'w' is F64\[37, 5\], not F32\[37, 5\]"):
        sink.begin(params(w=numbers(1, dtype=np.float64), b=numbers(2, 3)).specs)
    assert mean.statistics.staged_bytes == 0


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 2.0**53 + 2, True])
def test_a_weight_out_of_bounds_is_refused(weight):
    """One infinite weight would own the model."""
    mean = WeightedMean(MODEL, order=SITES)
    fill(mean.stage(SITES[0], weight), UPDATES[SITES[0]])
    with pytest.raises(UpdateRefused, match="site-1: weight"):
        mean.commit(SITES[0])


def test_an_update_that_is_not_whole_cannot_be_committed():
    """Staging is whole before the sum begins."""
    mean = WeightedMean(MODEL, order=SITES)
    mean.stage(SITES[0], 1).begin(MODEL.specs)
    with pytest.raises(TransferError, match="not whole"):
        mean.commit(SITES[0])


def test_staging_again_replaces_what_was_staged():
    """A second attempt of a task starts from nothing."""
    mean = WeightedMean(MODEL, order=SITES)
    first = mean.stage(SITES[0], 1)
    first.begin(MODEL.specs)
    fill(mean.stage(SITES[0], WEIGHTS[SITES[0]]), UPDATES[SITES[0]])
    with pytest.raises(TransferError, match="discarded"):
        first.destination("w", 0, 1)
    mean.commit(SITES[0])
    assert bytes_of(mean.finish()) == reference(SITES[:1], np.float64)


def test_one_contribution_a_site():
    """What is settled stays settled."""
    mean = WeightedMean(MODEL, order=SITES)
    fill(mean.stage(SITES[0], 1), UPDATES[SITES[0]])
    mean.commit(SITES[0])
    mean.discard(SITES[1])
    mean.discard(SITES[1])
    with pytest.raises(LocalProtocolError, match="site-1: is committed already"):
        mean.stage(SITES[0], 1)
    with pytest.raises(LocalProtocolError, match="site-1: is committed already"):
        mean.discard(SITES[0])
    with pytest.raises(LocalProtocolError, match="site-2: is discarded already"):
        mean.stage(SITES[1], 1)
    with pytest.raises(LocalProtocolError, match="site-9: is not of this cohort"):
        mean.stage("site-9", 1)
    with pytest.raises(LocalProtocolError, match="site-3: nothing is staged"):
        mean.commit(SITES[2])


def test_a_mean_of_nothing_is_an_error():
    """The caller asks for a quorum first."""
    with pytest.raises(LocalProtocolError, match="no updates"):
        WeightedMean(MODEL, order=SITES).finish()


def test_a_finished_mean_takes_nothing_more():
    """Late updates are recorded elsewhere."""
    mean = WeightedMean(MODEL, order=SITES[:1])
    fill(mean.stage(SITES[0], 1), UPDATES[SITES[0]])
    mean.commit(SITES[0])
    mean.finish()
    with pytest.raises(LocalProtocolError, match="ended"):
        mean.finish()


def test_committing_can_be_left_and_goes_on_later():
    """A cancelled task leaves no half of an update behind."""
    big = {site: params(w=numbers(at, 700_000)) for at, site in enumerate("abc")}
    mean = WeightedMean(big["a"], order="abc")
    for site, tensors in big.items():
        adopt(mean.stage(site, 1), tensors)
    steps = mean.committing("a")
    for _ in range(4):  # three chunks of admission, one of the sum
        next(steps)
    steps.close()
    mean.commit("b")
    mean.commit("c")
    arrays = [tensors.numpy()["w"].astype(np.float64) for tensors in big.values()]
    expected = ((arrays[0] + arrays[1]) + arrays[2]) / 3
    assert bytes(mean.finish()["w"]) == expected.astype(np.float32).tobytes()


def test_finishing_while_another_task_commits_is_harmless():
    """That task finds nothing left to add."""
    big = {site: params(w=numbers(at, 700_000)) for at, site in enumerate("ab")}
    mean = WeightedMean(big["a"], order="ab")
    for site, tensors in big.items():
        adopt(mean.stage(site, 1), tensors)
    mean.commit("b")
    steps = mean.committing("a")
    for _ in range(4):  # three chunks of admission, one of the sum
        next(steps)
    mean.finish()
    assert list(steps) == []
    assert mean.statistics.sites == (("a", 1), ("b", 1))


def test_committing_left_during_admission_leaves_the_site_open():
    """Nothing was admitted, so it can be discarded."""
    mean = WeightedMean(MODEL, order=SITES[:2])
    for site in SITES[:2]:
        adopt(mean.stage(site, WEIGHTS[site]), UPDATES[site])
    steps = mean.committing(SITES[0])
    next(steps)
    steps.close()
    mean.discard(SITES[0])
    mean.commit(SITES[1])
    assert bytes_of(mean.finish()) == reference(SITES[1:2], np.float64)


def test_staging_again_during_admission_is_noticed():
    """What was checked is what is summed."""
    mean = WeightedMean(MODEL, order=SITES[:1])
    adopt(mean.stage(SITES[0], 1), UPDATES[SITES[0]])
    steps = mean.committing(SITES[0])
    next(steps)
    next(steps)  # both tensors have been looked at
    mean.stage(SITES[0], 1)
    with pytest.raises(LocalProtocolError, match="staged again"):
        list(steps)


def test_a_spool_that_fails_ends_the_mean(tmp_path):
    """Half an update cannot be taken out of a sum."""
    options = MeanOptions(spool_folder=tmp_path)
    mean = WeightedMean(MODEL, order=SITES[:2], limits=staging(0), options=options)
    for site in SITES[:2]:
        fill(mean.stage(site, 1), UPDATES[site])
    mean.commit(SITES[1])
    steps = mean.committing(SITES[0])
    next(steps)  # what was looked at as it came is admitted at once: this is of the sum
    mean._area.spool()._file.truncate(0)
    with pytest.raises(TransferError, match="too early"):
        list(steps)
    with pytest.raises(LocalProtocolError, match="failed at site-1"):
        mean.finish()
    mean.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [(MeanOptions(exclude="("), "exclude"), (MeanOptions(accumulator="float16"), "accumulator")],
)
def test_options_that_cannot_be_used_are_refused(options, field):
    """At the start, not at the first update."""
    with pytest.raises(ConfigError) as caught:
        WeightedMean(MODEL, order=SITES, options=options)
    assert caught.value.field == field


def test_a_cohort_names_each_site_once():
    """A site cannot be in the sum twice."""
    with pytest.raises(ConfigError, match="different sites"):
        WeightedMean(MODEL, order=["a", "a"])


def test_types_without_a_mean_must_be_excluded():
    """Four-bit weights travel as raw bytes."""
    import torch

    packed = torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    model = TensorSet.from_params({"q": packed})
    with pytest.raises(ConfigError, match="'q' is F4"):
        WeightedMean(model, order=["a"])
    assert WeightedMean(model, order=["a"], options=MeanOptions(exclude="q"))


def test_a_mean_is_closed_with_its_block():
    """An abandoned round leaves no file."""
    with WeightedMean(MODEL, order=SITES, limits=staging(0)) as mean:
        fill(mean.stage(SITES[0], 1), UPDATES[SITES[0]])
    with pytest.raises(LocalProtocolError, match="ended"):
        mean.commit(SITES[0])
