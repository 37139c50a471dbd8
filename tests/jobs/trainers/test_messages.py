"""Messages between a client and a trainer: what was said arrives, anything else is refused."""

from contextlib import suppress

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, RemoteProtocolError
from flare_async.jobs.scripts.desk import TaskFacts
from flare_async.jobs.trainers.coding import PREFIX, decode, encode
from flare_async.jobs.trainers.messages import (
    Closing,
    Ended,
    Hello,
    Logged,
    Offered,
    Refused,
    Result,
    Seen,
    Taken,
    Welcome,
)
from flare_async.model import ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.spec import TensorSpec

COUNTS = st.integers(0, 2**63 - 1)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
PLAIN = st.recursive(SCALARS, lambda p: st.lists(p) | st.dictionaries(st.text(), p), max_leaves=8)
OPTIONS = st.dictionaries(st.text(), PLAIN, max_size=3)
META = st.dictionaries(st.text(), SCALARS, max_size=3)
KINDS = st.sampled_from(ParamsType)
FACTS = st.builds(TaskFacts, COUNTS, st.text(), COUNTS, COUNTS, META)
SPECS = (TensorSpec("w", "F32", (2, 3)), TensorSpec("tied", "F32", (2, 3)))
RECORDS = st.builds(
    LogRecord, st.text(), PLAIN, st.text(), st.none() | st.integers(-9, 2**40), OPTIONS
)
MESSAGES = st.one_of(
    st.builds(Hello, st.text(), COUNTS),
    st.builds(
        Welcome,
        *(st.text(), st.text(), OPTIONS, st.sampled_from(["numpy", "torch"]), KINDS),
        st.booleans(),
    ),
    st.builds(Offered, FACTS, st.just(SPECS), st.just({"tied": "w"}), st.booleans()),
    st.builds(
        Result,
        *(COUNTS, KINDS, st.dictionaries(st.text(), st.floats()), META, st.floats()),
        st.dictionaries(st.text(), st.text()),
    ),
    st.builds(Taken, COUNTS),
    st.builds(Seen, COUNTS),
    st.builds(Refused, COUNTS, st.text()),
    st.just(Ended()),
    st.builds(Logged, RECORDS, COUNTS),
    st.just(Closing()),
)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_what_was_said_arrives(message):
    """NaN compares by its text."""
    data = encode(message)
    assert int.from_bytes(data[:PREFIX], "big") == len(data) - PREFIX
    assert repr(decode(data[PREFIX:])) == repr(message)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda tag, fields: msgpack.packb([tag, *fields]),
        st.sampled_from(["hello", "welcome", "offered", "result", "logged", "taken", "seen", "x"]),
        st.lists(PLAIN, max_size=6),
    )
)
def test_garbage_is_a_typed_error(data):
    """Whatever the bytes, nothing else is raised."""
    with suppress(RemoteProtocolError):
        decode(data)


@pytest.mark.parametrize(
    "message",
    [
        Logged(LogRecord("k", np.float32(1), "METRIC")),
        Result(1, ParamsType.FULL, {"m": 1.0}, {"k": 2**70}, 0.0),
        Result(1, ParamsType.FULL, {}, {"k": "x" * (17 << 20)}, 0.0),
    ],
)
def test_what_cannot_travel_is_refused_at_its_source(message):
    """Before a byte is sent."""
    with pytest.raises(ConfigError):
        encode(message)
