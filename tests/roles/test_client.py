"""What a site does when its work breaks, when its task is taken back, and what it says of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ChannelReset, QuorumNotReached, TrainingFailed
from flare_async.limits import Limits
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC, TaskOffer
from flare_async.roles.text import described, shortened
from flare_async.wire.frames import ResetCode
from tests.roles.federation import MODEL, SCHEMES, Trains, expected, federation, settle, values

both = pytest.mark.parametrize("scheme", SCHEMES)


class Stubborn(Trains):
    """Raises an error of its own when it is cancelled."""

    async def run(self, task):
        """Work on one task."""
        error, self.error = self.error, None
        try:
            return await super().run(task)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            raise


def header_of(offer):
    """Return a task's header."""
    return OFFER_SCHEMA.encode(TaskOffer("job", "train", 0, 1, 0, 0, offer.ref))


@both
@pytest.mark.parametrize("error", [TrainingFailed("a", "stopped"), ValueError("stopped")])
def test_an_error_after_the_task_was_taken_back_stays_with_the_task(sim, scheme, error):
    """There is no channel left to report it on, and the site does the next task."""
    worker = Stubborn(1, seconds=3600, error=error)

    async def main():
        async with federation({"a": worker}, scheme=scheme) as made:
            with pytest.raises(QuorumNotReached):
                await made.play(deadline=5)
            await settle()
            worker.seconds = 0
            _, model = await made.play(1)
            return made.seen.status(), values(model)

    assert sim(main) == ({"a": "late"}, expected((1, 1)))


@both
def test_a_worker_that_breaks_fails_its_part_under_the_errors_name(sim, scheme):
    """Others of the process go on, and so does the site."""
    workers = {"a": Trains(1, error=KeyError("table")), "b": Trains(3)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            await made.play(quorum=1)
            workers["a"].error = None
            _, model = await made.play(1)
            return made.seen.records[0, "a"], values(model)

    record, model = sim(main)
    assert (record.status, record.reason) == ("failed", "KeyError: 'table'")
    assert model == expected((1, 1), (3, 1))


@both
def test_a_failure_fits_one_control_message_whatever_its_text(sim, scheme):
    """Text is counted in bytes, and what UTF-8 cannot carry is escaped."""
    worker = Trains(error=TrainingFailed("a", "\udcff" + "€" * 9_000, "€" * 90_000))

    async def main():
        limits = Limits(control_bytes=1024, channels=64)
        async with federation({"a": worker, "b": Trains()}, scheme=scheme, limits=limits) as made:
            await made.play(quorum=1)
            return made.seen.records[0, "a"].reason

    reason = sim(main)
    assert reason.startswith("\\udcff€€")
    assert len(reason.encode()) <= 256


@both
def test_a_result_that_cannot_travel_is_a_failed_part(sim, scheme):
    """The server is told why instead of waiting for a result."""
    worker = Trains()
    worker.weight = "\udcff"

    async def main():
        async with federation({"a": worker, "b": Trains()}, scheme=scheme) as made:
            await made.play(quorum=1)
            await settle()
            return made.seen.records[0, "a"], len(made.clients["a"].shelf._offers)

    record, held = sim(main)
    assert (record.status, held) == ("failed", 0)
    assert "cannot be packed" in record.reason


@both
def test_a_task_that_is_taken_back_as_it_comes_is_not_begun(sim, scheme):
    """The open and the reset arrive together."""
    worker = Trains()

    async def main():
        async with federation({"a": worker}, scheme=scheme) as made:
            header = header_of(made.server.shelf.put(MODEL))
            channel = made.server.sites["a"].open(TASK_TOPIC, header)
            channel.reset(ResetCode.LATE, "the round was closed")
            await settle()

    sim(main)
    assert worker.tasks == []


@both
def test_a_topic_that_a_site_does_not_know_is_refused_while_it_works(sim, scheme):
    """At once: whoever asks does not wait for the end of a task."""
    worker = Trains(seconds=3600)

    async def main():
        async with federation({"a": worker}, scheme=scheme) as made, asyncio.TaskGroup() as group:
            playing = group.create_task(made.play())
            await settle()
            assert len(worker.tasks) == 1
            channel = made.server.sites["a"].open("probe")
            with pytest.raises(ChannelReset, match="takes tasks only"):
                async with asyncio.timeout(1):
                    await channel.receive()
            await playing
            return made.seen.status()

    assert sim(main) == {"a": "ok"}


@given(st.text(), st.integers(0, 80), st.booleans())
def test_shortened_text_travels_and_has_no_more_bytes_than_allowed(text, nbytes, tail):
    """Short text comes out whole, apart from escapes."""
    short = shortened(text, nbytes, tail=tail)
    assert len(short.encode()) <= nbytes
    if len(text.encode("utf-8", "backslashreplace")) <= nbytes:
        assert short.encode() == text.encode("utf-8", "backslashreplace")


@pytest.mark.parametrize(("tail", "cut"), [(False, "abcd... "), (True, "... 6789")])
def test_what_was_cut_is_marked(tail, cut):
    """The start of a problem matters most, and the end of a traceback."""
    assert shortened("abcdef0123456789", 8, tail=tail) == cut


def test_an_error_without_text_is_described_all_the_same():
    """``str()`` of an exception is user code too."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert described(Mute()) == "Mute: <its str() failed>"
    assert described(ValueError("\udcff.csv")) == "ValueError: \\udcff.csv"
