"""Records pass between processes as plain values, and junk stops there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ConfigError
from flare_async.jobs.records.travel import packed_records, read_records
from flare_async.roles.log_record import AnalyticsDataType, LogRecord

RECORDS = st.builds(
    LogRecord,
    st.text(),
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.lists(st.text(), max_size=2),
    st.sampled_from([str(kind) for kind in AnalyticsDataType]),
    st.none() | st.integers(0, 9),
    st.dictionaries(st.text(), st.integers(0, 9), max_size=2),
)


@given(st.lists(RECORDS, max_size=3))
def test_records_of_a_process_come_back_as_they_were(records):
    """Through the plain values of its message."""
    assert repr(read_records(packed_records(records))) == repr(tuple(records))


JUNK = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["SCALAR"]),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, 2), inner, max_size=2)
    ),
)


@given(JUNK)
def test_junk_of_a_process_raises_typed_errors_only(junk):
    """A worker runs user code, so nothing that it says is believed."""
    try:
        read_records(junk)
    except (TypeError, ConfigError):
        return
