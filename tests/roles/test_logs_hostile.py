"""What travels as a record is checked on both sides, and nobody is held up or ended by it."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.roles.log_intake import LAST_BATCHES, LogIntake
from flare_async.roles.log_messages import (
    LOG_SCHEMA,
    LOG_TOPIC,
    SUBSCRIBE_SCHEMA,
    Batch,
    Entry,
    Subscribe,
    entry_of,
    record_of,
)
from flare_async.roles.log_record import LogRecord
from flare_async.wire.frames import ResetCode
from flare_async.wire.packing import pack
from flare_async.wire.session import OpenOptions
from tests.roles.federation import Trains, federation, settle
from tests.roles.records import Kept


def nested(levels):
    """Return lists in lists."""
    return [nested(levels - 1)] if levels else []


LIMITS = Limits()


@pytest.mark.parametrize(
    "bad",
    [
        LogRecord("", 1.0, "SCALAR"),
        LogRecord("k" * 2000, 1.0, "SCALAR"),
        LogRecord("k", 1.0, "VIRUS"),
        LogRecord("k", 1.0, "SCALAR", step=2**63),
        LogRecord("k", list(range(LIMITS.control_items)), "IMAGE"),
        LogRecord("k", [[[]]], "IMAGE", extra={"deep": nested(LIMITS.depth + 1)}),
        LogRecord(3, 1.0, "SCALAR"),
        LogRecord("k", object(), "SCALAR"),
    ],
    ids=["no-key", "long-key", "kind", "step", "items", "depth", "number-as-key", "object"],
)
def test_a_record_that_the_server_would_refuse_costs_no_other(sim, bad):
    """It is dropped where it is made; a server that sees one takes no more of that site."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for record in (bad, LogRecord("k", "fine", "TEXT")):
                client.log(record)
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.of("a"), taken.lost["a"]

    assert sim(main) == (["fine"], 1)


class Drips:
    """In place of a feed: goes on for ever after the server has asked for the rest."""

    waiting = False

    def __init__(self, seconds):
        self.seconds, self.sent = seconds, 0

    async def serve(self, channel):
        """Send a record each ``seconds``."""
        messages = Messages(channel, LOG_SCHEMA)
        while channel.is_open:
            self.sent += 1
            messages.post(Batch(b"f", 0, (Entry(self.sent, 0, 0.0, "k", 1.0, "SCALAR"),)))
            await anyio.sleep(self.seconds)


@pytest.mark.parametrize(("seconds", "most"), [(4.0, LIMITS.stall_timeout), (0.001, 1.0)])
def test_a_site_that_never_stops_talking_holds_up_nobody(sim, seconds, most):
    """Neither drop by drop nor in a flood."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            made.clients["a"]._logs = Drips(seconds)
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            began, before = made.context.clock.now(), taken.calls
            await intake.finish()
            took, calls = made.context.clock.now() - began, taken.calls - before
            await settle()
            return took, calls, intake._sources

    took, calls, left = sim(main)
    assert (took <= most + 0.1, left) == (True, {})
    assert calls <= LAST_BATCHES + 1


class Breaks(Kept):
    """A taker with a defect."""

    async def take(self, site, records, dropped):
        """Raise what nobody expects."""
        raise ZeroDivisionError


def test_a_taker_that_breaks_ends_the_intake_and_not_the_server(sim):
    """The next round is played."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            client.log(LogRecord("k", 1.0, "SCALAR"))
            intake = LogIntake(made.server, "job", Breaks())
            intake.want("a")
            await settle()
            arrived, _ = await made.play()
            await intake.finish()
            return len(arrived)

    assert sim(main) == 1


@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x00\x00\x01\xff",
        b"\xff\xff\xff\xff",
        (3, Entry(1, 0, 0.0, "", 1.0, "SCALAR")),
        (3, Entry(1, 0, 0.0, "k", 1.0, "VIRUS")),
        (3, Entry(1, 0, 0.0, "k", b"\xc1", "SCALAR")),
        (99, Entry(1, 0, 0.0, "k", 1.0, "SCALAR")),
        (3, Entry(1, 0, 0.0, "k", 1.0, "SCALAR", 2**63)),
        (3, Entry(1, 2**63, 0.0, "k", 1.0, "SCALAR")),
        (3, Entry(1, 0, 0.0, "k", pack({1: 2}), "SCALARS")),
        (3, Entry(1, 0, 0.0, "k", pack([b"x"]), "IMAGE")),
        (3, Entry(1, 0, 0.0, "k", pack(nested(40)), "IMAGE")),
    ],
    ids=[
        *("garbage", "length", "no-key", "kind", "packed", "feed"),
        *("step", "round", "names", "bytes", "depth"),
    ],
)
def test_a_bad_record_ends_the_sites_records_and_nothing_else(sim, message):
    """The session stays, and the next round is played."""

    async def main():
        async with federation({"a": Trains()}) as made:
            made.clients["a"]._logs = Answers(message)
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            arrived, _ = await made.play()
            await intake.finish()
            return len(arrived), taken.records

    assert sim(main) == (1, [])


class Answers:
    """In place of a feed: answers a server's subscription with one message."""

    waiting = False

    def __init__(self, message):
        self.message = message

    async def serve(self, channel):
        """Send the message, or the bytes as they are."""
        if isinstance(self.message, bytes):
            channel.send_soon(self.message)
            return
        nbytes, entry = self.message
        Messages(channel, LOG_SCHEMA).post(Batch(b"f" * nbytes, 0, (entry,)))


@pytest.mark.parametrize("header", [b"", b"\xff", b"\x91\x02"])
def test_a_bad_subscription_is_refused(sim, header):
    """The site resets that channel and serves the next one."""

    async def main():
        async with federation({"a": Trains()}) as made:
            session = made.server.sites["a"]
            channel = session.open(LOG_TOPIC, header, OpenOptions())
            await settle()
            return channel.failed.reset_code, session.ended

    assert sim(main) == (ResetCode.PROTOCOL, False)


def test_a_newer_subscription_ends_the_older(sim):
    """A server that has forgotten its channel gets everything that it has not taken."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client, session = made.clients["a"], made.server.sites["a"]
            client._round = ("job", 0)
            client.log(LogRecord("loss", 1.0, "SCALAR"))
            header = SUBSCRIBE_SCHEMA.encode(Subscribe("job"))
            first, second = (session.open(LOG_TOPIC, header) for _ in range(2))
            await settle()
            batch = await Messages(second, LOG_SCHEMA).receive()
            return first.failed.reset_code, [entry.number for entry in batch.entries]

    assert sim(main) == (ResetCode.LATE, [1])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(min_size=1),
    VALUES,
    st.none() | st.integers(0, 2**40),
    st.dictionaries(st.text(), VALUES),
)
def test_a_record_comes_back_as_it_was(key, value, step, extra):
    """What the schema and the packed parts carry, they carry exactly."""
    record = LogRecord(key, value, "PARAMETER", step, extra)
    try:
        data = LOG_SCHEMA.encode(Batch(b"f", 0, (entry_of(record, 1, 2, 0.5),)))
    except LocalProtocolError:
        return  # a lone surrogate
    (entry,) = LOG_SCHEMA.decode(data, LIMITS).entries
    assert repr(record_of(entry, LIMITS)) == repr(record)


@given(st.binary(max_size=200))
def test_garbage_raises_typed_errors_only(data):
    """Neither schema nor packed parts let anything else out."""
    for read in (
        lambda: LOG_SCHEMA.decode(data, LIMITS),
        lambda: SUBSCRIBE_SCHEMA.decode(data, LIMITS),
        lambda: record_of(Entry(1, 0, 0.0, "k", data, "SCALAR"), LIMITS),
    ):
        try:
            read()
        except RemoteProtocolError:
            continue
