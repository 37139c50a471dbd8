"""Rows: bounded in memory, honest on disk."""

from __future__ import annotations

import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.records.rows import MetricRow, RunMetrics
from flare_async.jobs.records.weight import weight
from flare_async.limits import Limits
from flare_async.roles.log_messages import KINDS, Entry, Logged, record_of


def test_rows_in_memory_are_bounded_in_bytes():
    """The oldest go; the count of all stays."""
    metrics = RunMetrics(nbytes=10 * weight("k", 0, {}))
    for value in range(50):
        metrics.add(MetricRow(0.0, "a", 0, "k", value, "SCALAR"))
    assert [row.value for row in metrics.rows] == list(range(40, 50))
    assert (metrics.total, len(metrics)) == (50, 10)
    assert metrics.of("k", "b") == []


@pytest.mark.parametrize(
    "make",
    [
        float,
        lambda k: f"{k}" * 500,
        lambda k: {f"{k}-{name}": name for name in range(200)},
        lambda k: [[k], [float(k)]] * 50,
    ],
    ids=["number", "text", "mapping", "lists"],
)
def test_what_a_row_is_said_to_take_is_what_it_takes(make):
    """Bytes of JSON say little: a mapping of small numbers takes twenty times as many."""
    metrics = RunMetrics()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for k in range(300):
        metrics.add(MetricRow(float(k), "a", k, f"key-{k}", make(k), "SCALAR"))
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert took < 1.5 * metrics._nbytes


def test_a_mapping_has_a_number_for_each_of_its_names():
    """As add_scalars gives it; what is no number is left out."""
    row = MetricRow(
        0.0, "a", 0, "loss", {"train": 1, "val": 0.5, "note": "x", "ok": True}, "SCALARS"
    )
    assert row.numbers() == {"loss/train": 1.0, "loss/val": 0.5}


def test_a_line_holds_what_json_cannot():
    """NaN becomes null, as in history.jsonl."""
    row = MetricRow(0.5, "a", 0, "loss", math.nan, "SCALAR", extra={"x": 1})
    assert json.loads(row.line()) == {
        "at_s": 0.5,
        "site": "a",
        "round": 0,
        "key": "loss",
        "value": None,
        "kind": "SCALAR",
        "step": None,
        "extra": {"x": 1},
    }


WHOLE = st.integers(-(2**63), 2**64 - 1)
PACKED = st.none() | st.booleans() | WHOLE | st.floats() | st.text() | st.binary()


@given(st.text(), PACKED, st.sampled_from(sorted(KINDS)), st.none() | WHOLE)
def test_whatever_a_site_sends_is_a_line_or_refused(key, value, kind, step):
    """A server must not fall over a record."""
    entry = Entry(1, 0, 0.0, key, value, kind, step, {"x": value})
    try:
        record = record_of(entry, Limits())
    except RemoteProtocolError:
        return
    row = MetricRow.of(Logged("a", 0, 0.0, record), 1.0)
    assert json.loads(row.line())["key"] == key
    assert all(type(number) is float for number in row.numbers().values())
    RunMetrics().add(row)
