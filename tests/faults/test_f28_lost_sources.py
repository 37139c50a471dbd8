"""F28: a result was accepted, and its source goes before all of it was pulled."""

from __future__ import annotations

import dataclasses
import re

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.limits import KIB
from flare_async.testing import Cut
from flare_async.transfer.source import MemorySource
from tests.faults.uploads import LIMITS, MODEL, SITES, uploads, without
from tests.roles.federation import Trains

TOTAL = MODEL.nbytes
SPOOLED = dataclasses.replace(LIMITS, staging_bytes=0)
OK = dict.fromkeys(SITES, "ok")
EXCLUDED = OK | {"dies": "failed"}
REASON = re.compile(
    r"result_source_lost: dies: the result of 'train' of round 0, attempt (\d) lost its source, "
    rf"(\d+) of {TOTAL} bytes came: (.*)"
)


async def nothing(one):
    """Disturb nothing."""


def withdrawing(after, times):
    """Return who takes the update off its shelf so many times, each with ``after`` bytes up."""

    async def act(one):
        gone = set()
        while len(gone) < times:
            await anyio.sleep(0.0005)
            shelf = one.made.clients["dies"].shelf
            for key, offer in list(shelf._offers.items()):
                if key not in gone and sent(one.made, offer) >= after:
                    gone.add(key)
                    shelf.withdraw(offer)

    return act


def sent(made, offer):
    """Return how many bytes of an offer the server has acknowledged; -1 before it asks."""
    if not offer.channels:
        return -1
    return sum(channel.statistics().acknowledged for channel in offer.channels)


def told(logs):
    """Return what the server's log says of lost sources: bytes that came, and the total."""
    return [(log["got"], log["total"]) for log in logs if log["event"] == "source_lost"]


@pytest.mark.parametrize("after", [0, 100 * KIB, 300 * KIB])
@pytest.mark.parametrize("limits", [LIMITS, SPOOLED], ids=["memory", "spool"])
def test_f28_a_site_that_is_still_there_gets_its_task_again(sim, limits, after):
    """It trains twice and counts once; nothing of the first update is in the sum."""
    calm = sim(lambda: uploads(nothing, limits=limits))
    worker = Trains(0.4, weight=2.0)
    with capture_logs() as logs:
        found = sim(lambda: uploads(withdrawing(after, 1), limits=limits, worker=worker))
    [(got, total)] = told(logs)
    assert (found.digest, found.status, len(worker.tasks)) == (calm.digest, OK, 2)
    assert after <= got < total == TOTAL


def test_f28_a_source_that_goes_each_time_is_excluded_with_the_bytes(sim):
    """After ``max_resends`` further attempts; the others' sum has the bits of a round without."""
    worker = Trains(0.4, weight=2.0)
    act = withdrawing(200 * KIB, 9)
    found = sim(lambda: uploads(act, worker=worker, quorum=2))
    attempt, got, problem = REASON.fullmatch(found.records["dies"].reason).groups()
    assert (found.digest, found.status) == (sim(without), EXCLUDED)
    assert (attempt, len(worker.tasks)) == ("3", 1 + LIMITS.max_resends)
    assert 200 * KIB <= int(got) < TOTAL
    assert problem == "dies: the offer has ended"


class Unreadable:
    """An update whose first tensor cannot be read beyond some bytes."""

    def __init__(self, tensors, most):
        self.inner, self.most = MemorySource(tensors, chunk=16 * KIB), most
        self.specs, self.aliases = self.inner.specs, self.inner.aliases

    def chunks(self, name, start=0):
        """Yield pieces until the disk fails."""
        for chunk in self.inner.chunks(name, start):
            start += len(chunk)
            if start > self.most:
                raise OSError("the disk fails")
            yield chunk


class FirstUnreadable(Trains):
    """A worker whose first update lies on a disk that fails."""

    async def run(self, task):
        """Work on one task."""
        result = await super().run(task)
        if len(self.tasks) > 1:
            return result
        return dataclasses.replace(result, tensors=Unreadable(result.tensors, 150 * KIB))


def test_f28_an_update_that_its_site_cannot_read_is_asked_for_again(sim):
    """The site is there and its disk fails in the middle of the upload."""
    calm = sim(lambda: uploads(nothing))
    worker = FirstUnreadable(0.4, weight=2.0)
    with capture_logs() as logs:
        found = sim(lambda: uploads(nothing, worker=worker))
    [(got, total)] = told(logs)
    assert (found.digest, found.status, len(worker.tasks)) == (calm.digest, OK, 2)
    assert 0 < got < total


def coming_back(seconds, *, polite):
    """Return who lets the site go in the middle of its upload, and start again later."""

    async def act(one):
        await withdrawn_or_up(one)
        if polite:
            one.die()
        await anyio.sleep(seconds)
        await one.again()

    async def withdrawn_or_up(one):
        while True:
            await anyio.sleep(0.0005)
            offers = list(one.made.clients["dies"].shelf._offers.values())
            if any(sent(one.made, offer) >= 100 * KIB for offer in offers):
                return

    return act


@pytest.mark.parametrize("seconds", [0.5, 20, 200])
@pytest.mark.parametrize("polite", [True, False], ids=["goodbye", "killed"])
def test_f28_a_site_that_comes_back_within_the_round_gets_its_task_again(sim, seconds, polite):
    """With a goodbye or without one, under a newer session: it counts once, as if never gone."""
    calm = sim(lambda: uploads(nothing))
    faults = () if polite else (Cut(after_bytes=250 * KIB, site="dies", direction="up"),)
    worker = Trains(0.4, weight=2.0)
    act = coming_back(seconds, polite=polite)
    found = sim(lambda: uploads(act, *faults, mortal=not polite, worker=worker))
    assert (found.digest, found.status, len(worker.tasks)) == (calm.digest, OK, 2)
    assert seconds <= found.seconds <= seconds + 10


@pytest.mark.parametrize("polite", [True, False], ids=["goodbye", "killed"])
def test_f28_a_site_that_does_not_come_back_is_excluded_within_a_bound(sim, polite):
    """One grace, whether its session used it up or it said goodbye; then the reason says so."""
    faults = () if polite else (Cut(after_bytes=250 * KIB, site="dies", direction="up"),)
    act = coming_back(10_000, polite=polite)
    found = sim(lambda: uploads(act, *faults, mortal=not polite, quorum=2))
    grace = LIMITS.session_grace
    assert (found.digest, found.status) == (sim(without), EXCLUDED)
    assert REASON.fullmatch(found.records["dies"].reason)
    assert grace <= found.seconds <= grace + LIMITS.handshake_timeout + 5


def test_f28_a_deadline_ends_the_wait_for_a_lost_source(sim):
    """The quorum closes the round on time; the site is late."""
    act = coming_back(10_000, polite=True)
    found = sim(lambda: uploads(act, quorum=2, deadline=30))
    assert (found.digest, found.status) == (sim(without), OK | {"dies": "late"})
    assert 30 <= found.seconds <= 31


@pytest.mark.slow
@pytest.mark.parametrize("limits", [LIMITS, SPOOLED], ids=["memory", "spool"])
def test_f28_a_site_that_dies_at_any_byte_of_its_upload_never_changes_the_sum(sim, limits):
    """Forty places, from before the first byte of its result to its last frame."""
    expected = sim(lambda: without(limits))
    digests, gots = set(), []
    for at in range(500, TOTAL, TOTAL // 40):
        cut = Cut(after_bytes=at, site="dies", direction="up")
        found = sim(lambda cut=cut: uploads(nothing, cut, limits=limits, mortal=True, quorum=2))
        assert found.status == EXCLUDED
        digests.add(found.digest)
        lost = REASON.fullmatch(found.records["dies"].reason)
        gots.append(int(lost[2]) if lost else -1)
    assert digests == {expected}
    assert gots == sorted(gots)
    assert len(set(gots)) >= 18  # bytes are counted by frames of 32 KiB
    assert gots[-1] > 0.9 * TOTAL
