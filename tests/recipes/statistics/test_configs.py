"""``statistic_configs``: what is wanted of which feature."""

from __future__ import annotations

import pytest

from flare_async.errors import ConfigError
from flare_async.recipes.statistics.configs import STATISTICS, Bins, Wanted
from flare_async.recipes.statistics.values import BinRange


def test_options_of_a_feature_come_before_those_of_any():
    """A feature without options of its own has those of "*"."""
    histogram = {"*": {"bins": 20}, "Age": {"bins": 5, "range": [0, 120]}}
    wanted = Wanted.of({"histogram": histogram, "quantile": {"Age": [0.25, 0.5]}})
    assert wanted.bins("Age") == Bins(5, BinRange(0.0, 120.0))
    assert wanted.bins("Fare") == Bins(20)
    assert wanted.quantiles("Age") == (0.25, 0.5)
    assert wanted.quantiles("Fare") == ()


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (["count"], [], []),
        (["mean"], ["sum", "mean"], []),
        (["var"], ["sum", "stddev"], ["var"]),
        (["max"], ["max"], []),
        (["stddev", "sum", "min"], ["sum", "stddev", "min"], ["var"]),
    ],
)
def test_sites_are_asked_for_no_more_than_is_needed(names, first, second):
    """Counts are needed for everything."""
    wanted = Wanted.of({name: {} for name in names})
    assert wanted.first == ("count", "failure_count", *first)
    assert wanted.second == tuple(second)
    assert wanted.needs_second == bool(second)


def test_a_histogram_needs_the_range_of_all_sites_unless_it_is_given():
    """A range in the configuration asks no site for its smallest value."""
    given = Wanted.of({"histogram": {"a": {"bins": 3, "range": [0, 1]}}})
    assert given.first == ("count", "failure_count")
    assert Wanted.of({"histogram": {"a": {"bins": 3}}}).first[2:] == ("min", "max")


@pytest.mark.parametrize(
    ("configs", "field"),
    [
        ({}, ""),
        ({"median": {}}, ""),
        ("count", ""),
        ([("count", {})], ""),
        ({"histogram": {}}, ".histogram"),
        ({"histogram": {"*": 20}}, ".histogram.*"),
        ({"histogram": {"*": {"bins": 0}}}, ".histogram.*.bins"),
        ({"histogram": {"*": {"bins": 20_000}}}, ".histogram.*.bins"),
        ({"histogram": {"*": {"bins": 2, "range": [1, 1]}}}, ".histogram.*.range"),
        ({"histogram": {"*": {"bins": 2, "range": [0, float("inf")]}}}, ".histogram.*.range"),
        ({"histogram": {"*": {"bins": 2, "edges": []}}}, ".histogram.*"),
        ({"quantile": {"*": []}}, ".quantile.*"),
        ({"quantile": {"*": [50]}}, ".quantile.*"),
        ({"quantile": {"*": [True]}}, ".quantile.*"),
        ({"quantile": [0.5]}, ".quantile"),
    ],
)
def test_options_that_cannot_be_used_are_named(configs, field):
    """With the path to them."""
    with pytest.raises(ConfigError) as caught:
        Wanted.of(configs)
    assert caught.value.field == f"statistic_configs{field}"


def test_the_error_lists_the_statistics_that_there_are():
    """So nobody has to look them up."""
    with pytest.raises(ConfigError, match=", ".join(STATISTICS)):
        Wanted.of({"median": {}})
