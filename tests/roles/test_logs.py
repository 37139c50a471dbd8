"""Records reach the server once each, whatever happens to links, and hold nobody up."""

from __future__ import annotations

import anyio
import pytest

from flare_async.limits import Limits
from flare_async.roles.log_feed import BATCH_BYTES, FEED_BYTES
from flare_async.roles.log_intake import LogIntake
from flare_async.roles.log_record import LogRecord
from flare_async.wire.frames import ResetCode
from tests.roles.federation import SCHEMES, Trains, crash, federation, settle
from tests.roles.records import Kept, Logs, connected
from tests.roles.tree import ONE, tree

LIMITS = Limits()


both = pytest.mark.parametrize("scheme", SCHEMES)


@both
@pytest.mark.parametrize("count", [1, 3, 2000])
def test_every_record_arrives_once_and_in_order(sim, scheme, count):
    """What is logged in the only round is there when the intake has finished."""

    async def main():
        async with federation({"a": Logs(range(count)), "b": Trains()}, scheme=scheme) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
            await made.play(quorum=1)
            await intake.finish()
            return taken.of("a")

    assert sim(main) == [1.5]


def test_records_survive_a_cut_link(sim):
    """The session resumes, and neither side asks or sends twice."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", taken := Kept(0.2))
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
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.of("a"), taken.lost["a"]

    assert sim(main) == (["fine"], 3)


def test_what_one_job_lost_is_not_told_of_the_next(sim):
    """The count is a job's, as the records are."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("old", 0)
            client.log(LogRecord("", 1.0, "SCALAR"))
            client._round = ("job", 0)
            client.log(LogRecord("k", 1.0, "SCALAR"))
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.lost

    assert sim(main) == {"a": 0}


def test_a_site_with_little_to_say_gathers_it(sim):
    """With many sites a batch has several records; with one it leaves at once."""

    async def main():
        sites = [f"s{k}" for k in range(100)]
        async with federation({name: Trains() for name in sites}) as made:
            intake = LogIntake(made.server, "job", taken := Kept())
            for name in sites:
                intake.want(name)
            client = made.clients["s0"]
            client._round = ("job", 0)
            for value in range(10):
                client.log(LogRecord("k", value, "SCALAR"))
                await anyio.sleep(0.2)
            await intake.finish()
            return taken.of("s0"), taken.calls

    values, calls = sim(main)
    assert values == list(range(10))
    assert calls <= 5


def test_finishing_asks_a_site_whose_pause_is_not_over(sim):
    """A channel was lost a moment ago; the session is there, and what it has is wanted."""

    async def main():
        async with federation({"a": Trains()}) as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            intake._sources["a"].channel.reset(ResetCode.INTERNAL, "lost")
            await settle()
            client.log(LogRecord("k", 1.0, "SCALAR"))
            await intake.finish()
            return taken.of("a")

    assert sim(main) == [1.0]


def test_a_taker_that_is_slow_bounds_what_is_under_way(sim):
    """One batch is on its way; the others wait at the site."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            client = made.clients["a"]
            client._round = ("job", 0)
            for value in range(5000):
                client.log(LogRecord("loss", value, "SCALAR"))
            intake = LogIntake(made.server, "job", Kept(1000))
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
            intake = LogIntake(made.server, "job", taken := Kept())
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
            intake = LogIntake(made.server, "job", taken := Kept())
            intake.want("a")
            await settle()
            await intake.finish()
            return taken.of("a")

    assert sim(main) == ["job"]


def test_finishing_gives_up_on_a_silent_site(sim):
    """Its patience is shutdown_timeout without progress."""

    async def main():
        async with federation({"a": Trains()}, scheme="sim") as made:
            intake = LogIntake(made.server, "job", Kept())
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


def test_the_model_travels_beside_a_flood_of_records(sim):
    """Records share the bulk lane: a round ends while they are under way."""

    async def main():
        flood = ["x" * 9_000] * 110
        async with tree(ONE, {("r1", "a"): Logs(flood)}) as made:
            connected(made, "a")
            intake = LogIntake(made.server, "job", taken := Kept(1.5))
            intake.want("a")
            began = made.context.clock.now()
            await made.play()
            took = made.context.clock.now() - began
            await intake.finish()
            return took, len(taken.records)

    took, count = sim(main)
    assert took < 1.5  # the first batch is not even taken
    assert count == 110
