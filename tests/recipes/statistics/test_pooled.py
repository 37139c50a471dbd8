"""The arithmetic of all sites together, against NumPy on the pooled data, without a run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.recipes.statistics.configs import Wanted
from flare_async.recipes.statistics.document import document_of
from flare_async.recipes.statistics.plan import Cell
from flare_async.recipes.statistics.pooled import Pooled, cells_of, edges_of
from flare_async.recipes.statistics.tables import CellReport
from flare_async.recipes.statistics.values import BinRange, DataType, Feature
from tests.references import fed_stats

CELL = Cell("train", "a")
NUMBERS = ("count", "failure_count", "sum", "mean", "var", "stddev", "min", "max")
WANTED = Wanted.of({**{name: {} for name in NUMBERS}, "histogram": {"*": {"bins": 4}}})
PARTS = st.lists(
    st.lists(st.integers(-1000, 1000).map(lambda value: value / 8), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)


def first_of(rows):
    """Return what a site says of its values at first."""
    own = fed_stats.pooled([rows])
    spread = {"stddev": own["stddev"]} if "stddev" in own else {}
    names = ("count", "failure_count", "sum", "mean", "min", "max")
    return CellReport({**{name: float(own[name]) for name in names}, **spread})


def second_of(rows, common):
    """Return what a site says when it knows what all have in common."""
    counts = fed_stats.counts([rows], 4, common.low, common.high)
    away = np.asarray(rows) - common.mean
    values = {"var": (away**2).sum() / (common.count - 1)} if common.count > 1 else {}
    return CellReport(values, histogram=tuple(counts))


def pooled_of(parts, lost=()):
    """Return the sites together; those that are lost say nothing in the second step."""
    first = {f"site-{at}": {CELL: first_of(rows)} for at, rows in enumerate(parts)}
    common = Pooled(WANTED, (CELL,), first).plan().common[0]
    second = {
        f"site-{at}": {CELL: second_of(rows, common)}
        for at, rows in enumerate(parts)
        if at not in lost
    }
    return Pooled(WANTED, (CELL,), first, second, {CELL: common})


@settings(deadline=None, max_examples=60)
@given(PARTS)
def test_global_numbers_are_those_of_the_pooled_data(parts):
    """However the values are spread over sites."""
    pooled, expected = pooled_of(parts), fed_stats.pooled(parts)
    for name in NUMBERS:
        wanted = expected.get(name)
        near = wanted if wanted is None else pytest.approx(wanted, rel=1e-9, abs=1e-9)
        assert pooled.number(CELL, name) == near, name


@settings(deadline=None, max_examples=60)
@given(PARTS, st.randoms(use_true_random=False))
def test_the_order_of_sites_changes_no_bit(parts, dice):
    """Sums are exact until the end."""
    turned = dice.sample(parts, len(parts))
    for name in ("sum", "mean", "min", "max"):
        assert pooled_of(parts).number(CELL, name) == pooled_of(turned).number(CELL, name)


@settings(deadline=None, max_examples=60)
@given(PARTS.filter(lambda parts: sum(map(len, parts[1:])) > 1))
def test_a_lost_part_of_the_variance_is_taken_out(parts):
    """Then the variance is the one of all others."""
    found = pooled_of(parts, lost={0}).var(CELL)
    assert found == pytest.approx(fed_stats.pooled(parts[1:])["var"], rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(PARTS)
def test_the_histogram_of_all_is_the_sum_of_histograms(parts):
    """Also where all values are the same."""
    pooled = pooled_of(parts)
    ends = pooled.ends(CELL)
    expected = fed_stats.counts(parts, 4, ends.min_value, ends.max_value)
    assert list(pooled.histogram(CELL)) == expected
    assert sum(expected) == sum(map(len, parts))


def test_a_range_without_width_is_widened_as_numpy_does():
    """A constant feature is in the middle."""
    assert pooled_of([[5.0, 5.0]]).ends(CELL) == BinRange(4.5, 5.5)
    assert edges_of(BinRange(0.0, 1.0), 4) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_nothing_is_said_of_nothing():
    """No site told anything: there is no zero in its place."""
    pooled = Pooled(WANTED, (CELL,), {"site-1": {}}, {"site-1": {}})
    assert all(pooled.number(CELL, name) is None for name in NUMBERS)
    assert document_of(pooled, 4, 100) == {"a": {}}


def test_cells_are_those_of_any_site_in_the_order_of_sites():
    """A feature that some sites lack is there, once."""
    one = {"train": [Feature("a", DataType.INT)], "test": [Feature("a", DataType.INT)]}
    two = {"train": [Feature("b", DataType.INT), Feature("a", DataType.FLOAT)]}
    assert cells_of([one, two]) == (CELL, Cell("test", "a"), Cell("train", "b"))


def test_the_document_rounds_floats_and_keeps_counts_whole():
    """By feature, statistic, site and data set."""
    document = document_of(pooled_of([[1.0, 2.0], [4.0]]), 2, 100)
    assert document["a"]["count"]["Global"] == {"train": 3}
    assert document["a"]["mean"]["Global"] == {"train": 2.33}
    assert document["a"]["stddev"] == {"site-0": {"train": 0.71}, "Global": {"train": 1.53}}
    assert document["a"]["histogram"]["site-1"]["train"] == [
        [1.0, 1.75, 0],
        [1.75, 2.5, 0],
        [2.5, 3.25, 0],
        [3.25, 4.0, 1],
    ]
