"""The memory equation against values that were computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flare_async.errors import ResourceLimit
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.plan import Layout, lookahead, plan_memory
from flare_async.limits import MIB, Limits
from flare_async.transfer.filters import (
    GaussianDP,
    ModelDequantizer,
    ModelQuantizer,
    SVTPrivacy,
)
from flare_async.transfer.tensors import TensorSet

LIMITS = Limits()
SITES = 4 * 40 * 1024  # four of them
LARGE = ModelDemand(model=1000 * MIB, accumulator=1000 * MIB, largest=100 * MIB, versions=2)


def parts_of(plan):
    """Return the parts in MiB."""
    found = (*plan.parts, *plan.files)
    return {part.name: part.nbytes / MIB for part in found if part.nbytes}


def test_a_small_model_is_summed_in_double_precision():
    """1,000 float32 values: 8,000 bytes of accumulator, and a result that is not in place."""
    model = TensorSet.from_params({"w": np.zeros(1000, np.float32)})
    assert ModelDemand.of_mean(model) == ModelDemand(
        model=4000, accumulator=8000, narrowed=4000, largest=4000
    )


def test_single_precision_is_summed_in_place():
    """The accumulator becomes the model."""
    model = TensorSet.from_params({"w": np.zeros(1000, np.float32)})
    found = ModelDemand.of_mean(model, accumulator="float32")
    assert (found.accumulator, found.narrowed) == (4000, 0)


def test_an_exact_sum_needs_eight_bytes_a_value_and_a_tensor_more():
    """Accumulators are int64 whatever the model is, and none becomes a tensor."""
    model = TensorSet.from_params({"w": np.zeros(1000, np.float32), "h": np.zeros(10, np.float16)})
    found = ModelDemand.of_mean(model, exact=True)
    assert (found.accumulator, found.narrowed) == (8080, 4000)
    double = TensorSet.from_params({"w": np.zeros(1000)})
    assert ModelDemand.of_mean(double).narrowed == 0
    assert ModelDemand.of_mean(double, exact=True).narrowed == 8000


@pytest.mark.parametrize(("by_reference", "files"), [(True, 2000), (False, 0)])
def test_trainers_have_files_instead_of_slot_copies(by_reference, files):
    """What came over a link is in such a file from the start: counted once, as received."""
    layout = Layout(sites=8, slots=3, trainers=2, by_reference=by_reference)
    found = parts_of(plan_memory(0, LARGE, layout, LIMITS))
    assert found.get("trainers' files", 0) == files
    assert found["slot copies"] == 1000
    assert found["results in trainers"] == 2000
    assert found.get("received", 0) == (0 if by_reference else 3000)


def test_half_precision_needs_twice_its_size_and_a_tensor_more():
    """float16 is summed in float32; integers in float64; excluded and tied tensors not at all."""
    shared = np.zeros(10, np.float16)
    params = {
        "half": np.zeros(100, np.float16),
        "count": np.zeros(3, np.int64),
        "skip": np.zeros(50, np.float32),
        "a": shared,
        "b": shared,
    }
    model = TensorSet.from_params(params)
    found = ModelDemand.of_mean(model, accumulator="float32", exclude="skip")
    assert found.model == 200 + 24 + 200 + 20
    assert found.accumulator == 400 + 24 + 40
    assert (found.narrowed, found.largest) == (200, 200)


def test_the_equation_in_one_process_over_memory():
    """Two versions, one accumulator, a slot's copy, a result in the sum and one being made."""
    plan = plan_memory(100 * MIB, LARGE, Layout(sites=4), LIMITS)
    assert parts_of(plan) == {
        "base": 100,
        "models": 2000,
        "accumulator": 1000,
        "sites": SITES / MIB,
        "slot copies": 1000,
        "results": 2000,
    }
    assert plan.nbytes == 6100 * MIB + SITES


def test_the_equation_over_sockets():
    """Windows of both ends, a full staging area with its buffers, a received copy, a spool."""
    plan = plan_memory(0, LARGE, Layout(sites=4, slots=2, by_reference=False), LIMITS)
    assert parts_of(plan) == {
        "models": 2000,
        "accumulator": 1000,
        "staging": 64 + 16,
        "windows": 2 * 4 * 16,
        "sites": SITES / MIB,
        "received": 2000,
        "slot copies": 2000,
        "results": 3000,
        "spool file": 3000 - 64,
    }
    assert plan.nbytes == sum(value * MIB for value in parts_of(plan).values()) - 2936 * MIB


def test_windows_are_bounded_by_the_budget_of_the_process():
    """Sixteen MiB a link, 256 in all."""
    plan = plan_memory(0, LARGE, Layout(sites=1000, by_reference=False), LIMITS)
    assert parts_of(plan)["windows"] == 256


def test_processes_have_files_and_results_of_their_own():
    """A model's file, an update's file a slot, and the result that is written into it."""
    plan = plan_memory(0, LARGE, Layout(sites=8, slots=2, workers="process"), LIMITS)
    found = parts_of(plan)
    assert (found["shared files"], found["results in workers"]) == (3000, 2000)


def test_pulling_again_needs_no_file_and_one_group_of_tensors():
    """The new model, and for a group of 100 MiB an update and its share of the accumulator."""
    demand = ModelDemand(
        model=1000 * MIB, accumulator=2000 * MIB, largest=100 * MIB, staging="repull"
    )
    plan = plan_memory(0, demand, Layout(sites=2, by_reference=False), LIMITS)
    found = parts_of(plan)
    assert (found["new model"], found["accumulator"], found["pulled again"]) == (1000, 200, 100)
    assert (found["staging"], plan.files) == (16, ())


@pytest.mark.parametrize(("held", "waiting"), [(None, 10), (4, 6)])
def test_updates_that_wait_to_be_combined_are_results_with_what_each_takes(held, waiting):
    """Those of all sites or of some, and those that are buffered beside them."""
    demand = replace(LARGE, held=held, buffered=2, per_update=3 * MIB)
    found = parts_of(plan_memory(0, demand, Layout(sites=8), LIMITS))
    assert (found["results"], found["combining"]) == (waiting * 1000, waiting * 3)


def test_relays_have_their_budgets():
    """24 MiB each unless they say otherwise."""
    plan = plan_memory(0, LARGE, Layout(sites=8, relays=2), LIMITS)
    assert parts_of(plan)["relays"] == 48


@pytest.mark.parametrize(
    ("by_reference", "staging", "expected"),
    [(True, "spool", 2000), (False, "spool", 2 * (2000 + 64 + 16)), (True, "repull", None)],
)
def test_relays_that_add_hold_accumulators_and_over_sockets_a_model(
    by_reference, staging, expected
):
    """Each of them, and what it stages; a round that pulls again asks none of them to add."""
    demand = replace(LARGE, staging=staging)
    layout = Layout(sites=4, relays=2, adding=True, by_reference=by_reference)
    found = parts_of(plan_memory(0, demand, layout, LIMITS))
    assert found.get("sums of relays") == expected
    assert found["results"] == 4000  # every site may be asked again


@pytest.mark.parametrize(
    ("nbytes", "expected"), [(0, 16), (1000, 16), (4 * MIB, 16), (16 * MIB, 4), (64 * MIB, 1)]
)
def test_few_large_results_may_wait(nbytes, expected):
    """As many as fit the staging budget, at least one, at most sixteen."""
    assert lookahead(ModelDemand(model=nbytes, accumulator=nbytes), LIMITS) == expected


def test_a_model_of_unknown_size_waits_like_a_small_one():
    """A recipe need not say what it needs."""
    assert lookahead(None, LIMITS) == 16


def test_a_plan_that_fits_is_let_through():
    """Exactly, or without a limit."""
    for allowed in (None, 6000 * MIB + SITES):
        plan_memory(0, LARGE, Layout(sites=4), Limits(memory_bytes=allowed)).check()


def test_a_plan_that_does_not_fit_is_refused_with_all_its_parts():
    """The field of the limits, what is needed, and the equation."""
    plan = plan_memory(0, LARGE, Layout(sites=4), Limits(memory_bytes=MIB))
    with pytest.raises(ResourceLimit) as caught:
        plan.check()
    text, needed = str(caught.value), 6000 * MIB + SITES
    assert text.startswith(f"memory_bytes: {needed} needed, {MIB} allowed; 6292 MB = models")
    assert all(name in text for name in ("models 2097", "accumulator 1049", "results 2097"))
    assert (caught.value.needed, caught.value.allowed) == (needed, MIB)


def test_a_plan_is_kept_as_plain_numbers():
    """Sums, limit and parts in bytes."""
    plan = plan_memory(5, LARGE, Layout(sites=1), LIMITS)
    document = plan.document()
    assert (document["bytes"], document["allowed_bytes"]) == (plan.nbytes, None)
    assert document["parts"]["base"] == 5


def test_answers_stay_at_the_server_for_every_site():
    """Where there is no sum that takes them as they come."""
    plan = plan_memory(0, replace(LARGE, answers=3 * MIB), Layout(sites=5), LIMITS)
    assert parts_of(plan)["answers"] == 15


def test_filters_are_held_at_the_server_and_at_every_slot():
    """A model that is made beside the model, and the copies of the one that holds most."""
    chains = FilterChains()
    for place, one in (
        ("server_output", ModelQuantizer()),
        ("client_input", ModelDequantizer()),
        ("client_output", SVTPrivacy()),
        ("client_output", GaussianDP(1.0, 1.0)),
    ):
        chains.add(place, one)
    plan = plan_memory(0, with_filters(LARGE, chains), Layout(sites=5, slots=2), LIMITS)
    found = parts_of(plan)
    assert (found["filters"], found["filters at slots"]) == (1000, 2 * 11_500)
