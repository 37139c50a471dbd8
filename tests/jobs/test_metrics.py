"""One number out of many sites', and the better of two."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.jobs.metrics import MetricMean, by_key

SITES = ("a", "b", "c", "d")


def mean_of(entries, order=SITES):
    """Return the means of (site, metrics, weight) entries."""
    mean = MetricMean()
    for entry in entries:
        mean.add(*entry)
    return mean.mean(order)


def test_the_mean_is_weighted():
    """A site with three times the examples counts three times."""
    entries = [("a", {"acc": 0.5, "loss": 1.0}, 3.0), ("b", {"acc": 1.0, "loss": 5.0}, 1.0)]
    assert mean_of(entries) == {"acc": 0.625, "loss": 2.0}


def test_each_metric_is_the_mean_of_the_sites_that_sent_it():
    """One site that lacks a metric must not take it from all the others."""
    sites = [("a", {"x": 1.0, "y": 2.0}, 1.0), ("b", {"x": 3.0}, 1.0)]
    assert mean_of(sites) == {"x": 2.0, "y": 2.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_does_not_count(value):
    """One diverging site must neither hide the best model nor be it."""
    sites = [("a", {"x": 1.0}, 1.0), ("b", {"x": value, "y": 4.0}, 1.0)]
    assert mean_of(sites) == {"x": 1.0, "y": 4.0}


def test_a_site_without_any_metric_does_not_count():
    """It said nothing, so it contradicts nothing."""
    assert mean_of([("a", {"x": 1.0}, 1.0), ("b", {}, 9.0)]) == {"x": 1.0}


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 2.0**54])
def test_a_site_whose_weight_is_not_above_zero_does_not_count(weight):
    """A site without validation examples has measured nothing."""
    assert mean_of([("a", {"x": 1.0}, 2.0), ("b", {"x": 9.0}, weight)]) == {"x": 1.0}
    assert mean_of([("b", {"x": 9.0}, weight)]) == {}


def test_nothing_gives_nothing():
    """No division by zero."""
    assert mean_of([]) == {}


@given(st.permutations(range(4)), st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_the_order_of_arrival_changes_no_bit(arrivals, numbers):
    """Sites are summed in the order of the cohort."""
    entries = [(site, {"x": x}, 0.1 + x * x) for site, x in zip(SITES, numbers, strict=True)]
    assert mean_of([entries[at] for at in arrivals]) == mean_of(entries)


@pytest.mark.parametrize(
    ("value", "best", "lower", "expected"),
    [
        (0.9, 0.8, False, True),
        (0.8, 0.8, False, False),
        (0.7, 0.8, False, False),
        (0.7, 0.8, True, True),
        (0.8, 0.8, True, False),
        (0.1, None, False, True),
        (0.1, math.nan, False, True),
        (math.nan, None, False, False),
        (math.nan, 0.8, True, False),
    ],
)
def test_better_is_strictly_better_and_a_number(value, best, lower, expected):
    """Equal is not better, so the earlier version stays the best."""
    known = None if best is None else {"acc": best}
    assert by_key("acc", lower=lower)({"acc": value}, known) is expected


def test_a_missing_key_is_never_better_and_always_beaten():
    """Other metrics do not count."""
    better = by_key("acc")
    assert not better({"loss": 0.0}, None)
    assert better({"acc": 0.0}, {"loss": 0.0})
