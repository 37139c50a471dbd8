"""Records of many threads reach the loop in order, in bounded memory."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from flare_async.jobs.records.post import RecordPost
from flare_async.limits import MIB
from flare_async.roles.log_record import LogRecord


@pytest.mark.asyncio
async def test_the_post_keeps_the_order_of_each_thread():
    """Many threads hand over; each one's records arrive in its order, all on the loop."""
    came = []
    post = RecordPost(lambda site, record: came.append((site, record.value)))

    def talk(site):
        for value in range(200):
            post(site, LogRecord("k", value, "SCALAR"))

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0)
    post.flush()
    for site in "abc":
        assert [value for who, value in came if who == site] == list(range(200))


def test_the_post_is_harmless_when_its_loop_is_closed():
    """An abandoned thread may outlive the run."""

    async def make():
        return RecordPost(lambda site, record: None)

    post = asyncio.run(make())
    post("a", LogRecord("k", 1.0, "SCALAR"))
    assert list(post._waiting) == []


@pytest.mark.asyncio
async def test_what_waits_is_bounded_in_bytes():
    """A script may log faster than a busy loop takes, and not only numbers."""
    came = []
    post = RecordPost(lambda site, record: came.append(record.value))
    text = "x" * MIB

    def talk():
        for value in range(100):
            post("a", LogRecord("k", f"{value}:{text}", "TEXT"))

    thread = threading.Thread(target=talk)
    thread.start()
    while thread.is_alive():
        pass  # the loop stands still
    post.flush()
    assert [value.split(":")[0] for value in came] == [str(k) for k in range(85, 100)]
    assert (post._nbytes, len(post._waiting)) == (0, 0)


@pytest.mark.asyncio
async def test_the_loop_does_not_speak_as_the_thread_that_woke_it():
    """A log line of the loop must not be marked with the site whose script called last."""
    speaker = contextvars.ContextVar("speaker", default="loop")
    heard = []
    post = RecordPost(lambda site, record: heard.append(speaker.get()))

    def talk():
        speaker.set("script")
        post("a", LogRecord("k", 1.0, "SCALAR"))

    thread = threading.Thread(target=talk)
    thread.start()
    while not heard:
        await asyncio.sleep(0)
    assert heard == ["loop"]
