"""A job's start: acknowledged twice by everybody, or by enough, before its deadline."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.errors import QuorumNotReached, StartFailed
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.roles.start_messages import START_SCHEMA, START_TOPIC, Acknowledged, JobNotice
from flare_async.roles.startup import start_sites
from tests.faults.world import now
from tests.roles.federation import Trains
from tests.roles.tree import ONE, joined, tree

NOTICE = JobNotice("job-1", "fedavg", 3, 144)
LIMITS = Limits(start_timeout=30)


async def never(notice):
    """Never get ready."""
    await anyio.sleep_forever()


async def cannot(notice):
    """Say why not."""
    raise OSError("no room on the disk")


async def half(made, name, parent):
    """Acknowledge the deployment and never the start."""
    async with joined(made, name, made.at(parent)) as session:
        async for channel in session:
            assert channel.topic == START_TOPIC
            Messages(channel, START_SCHEMA).post(Acknowledged())


def workers(count, relays=("r1",)):
    """Return workers of sites s0, s1, ... in turn below the relays."""
    return {(relays[n % len(relays)], f"s{n}"): Trains(n % 5) for n in range(count)}


@pytest.mark.parametrize(
    ("prepare", "reason"), [(never, "no answer within 30 s"), (cannot, "OSError: no room")]
)
def test_a_site_that_does_not_acknowledge_is_left_out_with_its_reason(sim, prepare, reason):
    """No answer counts as a failure, like a refusal; the others begin."""

    async def main():
        async with tree(ONE, workers(3), limits=LIMITS) as made:
            made.start(made.site, "late", Trains(), "r1", prepare=prepare)
            await made.server.wait_for(["late"], 1)
            sites = ["s0", "late", "s1", "s2"]
            began = now()
            report = await start_sites(made.server, NOTICE, sites, 3)
            return report, now() - began

    report, took = sim(main)
    assert report.present == ("s0", "s1", "s2")
    assert report.excluded.keys() == {"late"}
    assert reason in report.excluded["late"]
    assert took <= LIMITS.start_timeout + 1


def test_a_site_that_never_begins_is_left_out_in_the_second_phase(sim):
    """It had the job; its reason names the phase."""

    async def main():
        async with tree(ONE, workers(2), limits=LIMITS) as made:
            made.start(half, made, "h", "r1")
            await made.server.wait_for(["h"], 1)
            return await start_sites(made.server, NOTICE, ["h", "s0", "s1"], 2)

    report = sim(main)
    assert report.present == ("s0", "s1")
    assert report.excluded == {"h": "start: no answer within 30 s"}


@pytest.mark.parametrize(("minimum", "required"), [(4, ()), (2, ("late",))])
def test_too_few_or_a_required_site_missing_is_start_failed(sim, minimum, required):
    """Whoever had acknowledged is told that the job is off."""

    async def main():
        async with tree(ONE, workers(3), limits=LIMITS) as made:
            made.start(made.site, "late", Trains(), "r1", prepare=never)
            await made.server.wait_for(["late"], 1)
            sites = ["s0", "s1", "s2", "late"]
            with pytest.raises(StartFailed) as caught:
                await start_sites(made.server, NOTICE, sites, minimum, required)
            await anyio.sleep(1)
            open_there = made.relays["r1"].sites["s0"].channels
            return caught.value.missing, [channel.topic for channel in open_there.values()]

    assert sim(main) == (("late",), [])


def test_a_job_without_its_metadata_is_declined_by_the_field(sim):
    """The error says what is missing, not where something broke."""

    async def main():
        async with tree(ONE, workers(1), limits=LIMITS) as made:
            with capture_logs() as logs, pytest.raises(StartFailed):
                await start_sites(made.server, JobNotice("", "fedavg", 1, 1), ["s0"], 1)
            return [entry["sites"] for entry in logs if entry["event"] == "sites_excluded"]

    assert sim(main) == [{"s0": "deployment: s0: the job's metadata lack 'job'"}]


def test_a_site_is_lost_only_after_it_was_seen(sim):
    """One that never came is not called dead."""

    async def main():
        async with tree(ONE, workers(2), limits=LIMITS) as made:
            await anyio.sleep(1)  # until it has its hello too, so that it can say goodbye
            made.scopes["s1"].cancel()
            await anyio.sleep(1)
            return (await start_sites(made.server, NOTICE, ["s0", "s1", "ghost"], 1)).excluded

    excluded = sim(main)
    assert excluded["s1"] == "deployment: s1: was lost"
    assert excluded["ghost"] == "deployment: ghost: never came"


RELAYS = {f"r{number}": "server" for number in range(6)}


def test_a_tree_of_144_sites_and_6_relays_starts_and_ends_without_2_that_never_answer(sim):
    """The root names both at the start, before its deadline; 142 sites do the round."""

    async def main():
        limits = Limits(start_timeout=30, channels=256)
        async with tree(RELAYS, workers(142, tuple(RELAYS)), limits=limits) as made:
            for name in ("silent-1", "silent-2"):
                made.start(made.site, name, Trains(), "r5", prepare=never)
            await made.server.wait_for(["silent-1", "silent-2"], 2)
            sites = [*(f"s{number}" for number in range(142)), "silent-1", "silent-2"]
            report = await start_sites(made.server, NOTICE, sites, 140)
            arrived, _ = await made.play(sites=report.present, quorum=140)
            return report.excluded, len(arrived), now()

    excluded, arrived, ended = sim(main)
    assert list(excluded) == ["silent-1", "silent-2"]
    assert arrived == 142
    assert ended <= 2 * 30


def test_sites_that_never_answer_their_task_are_named_at_the_rounds_deadline(sim):
    """They acknowledged the start; the round is closed by its quorum, and names them as late."""
    placed = {**workers(4), ("r1", "x"): Trains(seconds=1e6), ("r1", "y"): Trains(seconds=1e6)}

    async def main():
        async with tree(ONE, placed) as made:
            sites = [name for _, name in placed]
            arrived, _ = await made.play(sites=sites, quorum=4, deadline=60.0)
            return len(arrived), made.seen.status(), now()

    arrived, status, ended = sim(main)
    assert (arrived, status["x"], status["y"]) == (4, "late", "late")
    assert ended < 62


def test_without_its_quorum_the_round_names_who_did_not_answer(sim):
    """The reason of each stands in the error."""
    placed = {**workers(2), ("r1", "x"): Trains(seconds=1e6)}

    async def main():
        async with tree(ONE, placed) as made:
            with pytest.raises(QuorumNotReached) as caught:
                await made.play(sites=[name for _, name in placed], deadline=60.0)
            return caught.value.failures

    assert list(sim(main)) == ["x"]
