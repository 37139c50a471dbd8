"""A site's answer as tensors: round trips, and numbers that no statistic can have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flare_async.errors import TensorFormatError
from flare_async.recipes.statistics.configs import Wanted
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.plan import Cell, Common, Plan
from flare_async.recipes.statistics.tables import CellReport, Tables

WANTED = Wanted.of(
    {
        **{name: {} for name in ("mean", "stddev", "min", "max")},
        "histogram": {"a": {"bins": 3}, "b": {"bins": 2}},
        "quantile": {"*": [0.5]},
    }
)
CELLS = (Cell("train", "a"), Cell("train", "b"), Cell("test", "c"))
COUNTS = st.integers(0, 2**40).map(float)
POSITIVE = st.floats(0, 1e300)
FIRST = st.fixed_dictionaries(
    {"count": COUNTS, "failure_count": COUNTS},
    optional={"sum": st.floats(-1e300, 1e300), "stddev": POSITIVE, "min": st.floats(-1e9, 0)},
)
DIGESTS = st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9)), min_size=1, max_size=10)


def tables(step):
    """Return the tables of a step."""
    return Tables(Plan(step, CELLS, (Common(),) * len(CELLS)), WANTED, 10)


def digest_of(pairs):
    """Return a digest of centroids."""
    ordered = sorted(pairs)
    return Digest(tuple(mean for mean, _ in ordered), tuple(weight for _, weight in ordered))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(CELLS), st.tuples(FIRST, st.none() | DIGESTS)))
def test_the_first_step_is_what_it_was(given_reports):
    """Whatever is missing stays missing."""
    reports = {
        cell: CellReport(values, digest=None if pairs is None else digest_of(pairs))
        for cell, (values, pairs) in given_reports.items()
    }
    assert tables(1).read(tables(1).filled(reports)) == reports


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 2**53)] * 2), st.none() | POSITIVE)
def test_the_second_step_is_what_it_was(counts, var):
    """A histogram has as many bins as its feature wants."""
    values = {} if var is None else {"var": var}
    reports = {CELLS[1]: CellReport(values, histogram=counts), CELLS[2]: CellReport(values)}
    assert tables(2).read(tables(2).filled(reports)) == reports


def test_all_sites_send_tensors_of_the_same_shapes():
    """Whatever they have to say."""
    for step in (1, 2):
        empty, filled = tables(step).empty(), tables(step).filled({CELLS[0]: CellReport()})
        shapes = [{name: one.shape for name, one in found.items()} for found in (empty, filled)]
        assert shapes[0] == shapes[1]


@st.composite
def garbage(draw, step):
    """Return tensors with the right names, types and shapes, and anything in them."""
    made = {}
    for name, one in tables(step).empty().items():
        numbers = {} if one.dtype.kind != "f" else {"elements": st.floats(-1e9, 1e9) | st.just(0)}
        made[name] = draw(arrays.arrays(one.dtype, one.shape, **numbers))
    return made


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([1, 2]))
def test_garbage_gives_a_typed_error_or_reports(data, step):
    """Nothing else gets out, and what gets through can be written again."""
    tensors = data.draw(garbage(step))
    try:
        reports = tables(step).read(tensors)
    except TensorFormatError:
        return
    assert tables(step).read(tables(step).filled(reports)) == reports


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"count": -1.0}, "-1 is no count"),
        ({"count": 1.5}, "1.5 is no count"),
        ({"failure_count": 1e300}, r"1e\+300 is no failure_count"),
        ({"sum": np.inf}, "inf is no sum"),
        ({"stddev": -0.5}, "-0.5 is no stddev"),
        ({"min": 2.0, "max": 1.0}, "min 2 is above max 1"),
        ({"count": 3.0, "sum": 1e302}, r"1e\+302 is no sum"),
        ({"sum": 1.0}, "no count"),
    ],
)
def test_a_number_that_cannot_be_is_refused(values, problem):
    """With the cell that it is said of."""
    sent = tables(1).filled({CELLS[0]: CellReport(values)})
    with pytest.raises(TensorFormatError, match=rf"feature='a'\): {problem}"):
        tables(1).read(sent)


def test_counts_beyond_the_last_bin_and_below_zero_are_refused():
    """They would be in nobody's histogram, or take from another's."""
    for place, count in ((2, 1), (0, -1)):
        sent = tables(2).filled({CELLS[1]: CellReport(histogram=(1, 2))})
        sent["bins"][1, place] = count
        with pytest.raises(TensorFormatError, match=r"beyond the last of 2 bins|from 0 to 2"):
            tables(2).read(sent)


def test_centroids_beyond_any_data_are_refused():
    """Merging them would overflow, for all other sites too."""
    for digest in (Digest((1e302,), (1.0,)), Digest((1.0,), (1e300,))):
        sent = tables(1).filled({CELLS[0]: CellReport({"count": 3.0}, digest=digest)})
        with pytest.raises(TensorFormatError, match=r"a centroid beyond 2\*\*1000"):
            tables(1).read(sent)
