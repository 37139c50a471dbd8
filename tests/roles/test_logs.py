"""Records reach the server once each, whatever happens to links, and hold nobody up."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.roles.log_feed import BATCH_BYTES, FEED_BYTES
from flare_async.roles.log_intake import LogIntake
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
from flare_async.wire.session import OpenOptions
from tests.roles.federation import SCHEMES, Trains, crash, federation, settle
from tests.roles.tree import ONE, tree

both = pytest.mark.parametrize("scheme", SCHEMES)
LIMITS = Limits()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Taken:
    """Keeps what it is given; waits ``seconds`` each time."""

    def __init__(self, seconds=0.0):
        self.records, self.lost, self.seconds = [], {}, seconds

    async def take(self, site, records, dropped):
        """Keep records and the count of the lost."""
        self.records += records
        self.lost[site] = self.lost.get(site, 0) + dropped
        await anyio.sleep(self.seconds)

    def of(self, site):
        """Return the values of one site in their order of arrival."""
        return [one.record.value for one in self.records if one.site == site]


class Logs(Trains):
    """Logs ``values`` under the key "loss" while it trains."""

    def __init__(self, values, **options):
        super().__init__(**options)
        self.values, self.client = values, None

    async def run(self, task):
        """Log, then work."""
        for value in self.values:
            self.client.log(LogRecord("loss", value, "SCALAR"))
        return await super().run(task)


def connected(made, *names):
    """Let the workers of these sites log over their clients."""
    for name in names:
        made.clients[name]._worker.client = made.clients[name]


@both
@pytest.mark.parametrize("count", [1, 3, 2000])
def test_every_record_arrives_once_and_in_order(sim, scheme, count):
    """What is logged in the only round is there when the intake has finished."""

    async def main():
        async with federation({"a": Logs(range(count)), "b": Trains()}, scheme=scheme) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Taken())
            await made.play()
            await intake.finish()
            await settle()
            left = [c.topic for one in made.server.sites.values() for c in one.channels.values()]
            return taken, left

    taken, left = sim(main)
    assert taken.of("a") == list(range(count))
    assert {one.round_number for one in taken.records} == {0}
    assert (taken.of("b"), left) == ([], [])


@both
def test_records_pass_relays(sim, scheme):
    """A site behind two relays is asked through them."""

    async def main():
        relays = {"r1": "server", "r2": "r1"}
        async with tree(relays, {("r2", "a"): Logs(range(500))}, scheme=scheme) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Taken())
            await made.play()
            await intake.finish()
            return taken.of("a")

    assert sim(main) == list(range(500))


def test_a_failed_task_says_that_there_are_records(sim):
    """What a script logged before it failed helps most."""

    async def main():
        workers = {"a": Logs([1.5], error=ValueError("no")), "b": Trains()}
        async with federation(workers) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Taken())
            await made.play(quorum=1)
            await intake.finish()
            return taken.of("a")

    assert sim(main) == [1.5]


def test_records_survive_a_cut_link(sim):
    """The session resumes, and neither side asks or sends twice."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", taken := Taken(0.2))
            intake.want("a")
            client = made.clients["a"]
            client._round = ("job", 3)
            for value in range(3000):
                client.log(LogRecord("loss", value, "SCALAR"))
                if value % 1000 == 500:
                    made.server.sites["a"].link.cut()
                    await anyio.sleep(1)
            await anyio.sleep(60)
            await intake.finish()
            return taken

    taken = sim(main)
    assert taken.of("a") == list(range(3000))
    assert {one.round_number for one in taken.records} == {3}


def test_a_new_session_goes_on_where_the_old_one_stopped(sim):
    """The feed outlives the session; what was taken is not taken again."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in range(10):
                client.log(LogRecord("loss", value, "SCALAR"))
            await anyio.sleep(5)
            session = made.server.sites["a"]
            session.leave(int(ResetCode.INTERNAL), "gone")
            client.log(LogRecord("loss", 10, "SCALAR"))
            made.context.tasks.start_soon(client.run, made.address)
            await anyio.sleep(60)
            await intake.finish()
            return taken.of("a"), made.server.sites["a"] is not session

    assert sim(main) == (list(range(11)), True)


def test_a_site_that_began_anew_is_believed_anew(sim):
    """Numbers of another feed say nothing about those that were taken."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            for value in (1, 2):
                client = made.clients["a"]
                client._round = ("job", 0)
                client.log(LogRecord("loss", value, "SCALAR"))
                await anyio.sleep(5)
                crash(made, "a")
                await anyio.sleep(400)
                made.context.tasks.start_soon(made.join, "a", Trains())
                await anyio.sleep(100)
            await intake.finish()
            return taken.of("a")

    assert sim(main) == [1, 2]


def test_a_full_buffer_drops_the_oldest_and_says_how_many(sim):
    """Bytes are what bounds it, and the server learns the count."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in range(50_000):
                client.log(LogRecord("loss", value, "SCALAR"))
            assert client._logs._nbytes <= FEED_BYTES
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken

    taken = sim(main)
    values = taken.of("a")
    assert values[-1] == 49_999
    assert values == list(range(50_000 - len(values), 50_000))
    assert taken.lost["a"] == 50_000 - len(values) > 0


def test_a_record_that_cannot_travel_is_counted(sim):
    """Neither its length nor its contents are the training code's trouble."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in ("x" * BATCH_BYTES, "\udcff", 2**70, "fine"):
                client.log(LogRecord("note", value, "TEXT"))
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.of("a"), taken.lost["a"]

    assert sim(main) == (["fine"], 3)


def test_a_taker_that_is_slow_bounds_what_is_under_way(sim):
    """One batch is on its way; the others wait at the site."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in range(5000):
                client.log(LogRecord("loss", value, "SCALAR"))
            intake = LogIntake(made.server, "job", Taken(1000))
            intake.want("a")
            await anyio.sleep(10)
            channel = intake._sources["a"].channel
            return channel.statistics().received, len(client._logs._kept)

    received, kept = sim(main)
    assert 0 < received <= 2 * BATCH_BYTES
    assert kept == 5000


def test_the_rate_of_a_site_is_bounded(sim):
    """A megabyte takes its second, on links that would carry it at once."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in range(100):
                client.log(LogRecord("note", str(value) + "x" * 9_000, "TEXT"))
            began = made.context.clock.now()
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            while len(taken.records) < 100:
                await anyio.sleep(0.01)
            return made.context.clock.now() - began

    assert 0.5 < sim(main) < 2


def test_another_jobs_records_stay(sim):
    """A site may have records of a job that nobody asks for."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            for job in ("old", "job"):
                client._round = (job, 0)
                client.log(LogRecord("of", job, "TEXT"))
            intake = LogIntake(made.server, "job", taken := Taken())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.of("a")

    assert sim(main) == ["job"]


def test_finishing_gives_up_on_a_silent_site(sim):
    """Its patience is shutdown_timeout without progress."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", Taken())
            intake.want("a")
            await settle()
            made.server.sites["a"].link.cut()
            began = made.context.clock.now()
            made.scopes["a"].cancel()
            await intake.finish()
            await settle()
            return made.context.clock.now() - began, intake._sources

    seconds, left = sim(main)
    assert (round(seconds), left) == (LIMITS.shutdown_timeout, {})


@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x00\x00\x01\xff",
        b"\xff\xff\xff\xff",
        (3, Entry(1, 0, 0.0, "", 1.0, "SCALAR")),
        (3, Entry(1, 0, 0.0, "k", 1.0, "VIRUS")),
        (3, Entry(1, 0, 0.0, "k", b"\xc1", "SCALAR")),
        (99, Entry(1, 0, 0.0, "k", 1.0, "SCALAR")),
    ],
    ids=["garbage", "length", "no-key", "kind", "packed", "feed"],
)
def test_a_bad_record_ends_the_sites_records_and_nothing_else(sim, message):
    """The session stays, and the next round is played."""

    async def main():
        async with federation({"a": Trains()}) as made:
            made.clients["a"]._logs = Answers(message)
            intake = LogIntake(made.server, "job", taken := Taken())
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


def test_the_model_travels_beside_a_flood_of_records(sim):
    """Records share the bulk lane: a round ends while they are under way."""

    async def main():
        flood = ["x" * 9_000] * 110
        async with tree(ONE, {("r1", "a"): Logs(flood)}) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Taken(2))
            intake.want("a")
            began = made.context.clock.now()
            await made.play()
            took = made.context.clock.now() - began
            await intake.finish()
            return took, len(taken.records)

    took, count = sim(main)
    assert took < 2  # the first batch is not even taken
    assert count == 110
