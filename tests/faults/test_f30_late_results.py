"""F30: results at the deadline, after it, after the job, or twice: one counts, or none."""

from __future__ import annotations

import anyio
import pytest

from flare_async.errors import FlareError
from flare_async.roles.messages import TASK_SCHEMA, TASK_TOPIC
from flare_async.roles.round import RoundTask
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.mean import WeightedMean
from tests.faults.world import model_of, world
from tests.hostile.answers import GOOD, Answers
from tests.roles.federation import MODEL, Trains, expected, federation, settle, values
from tests.roles.rogue import Rogue, joined, metrics_only, round_of, tasks_open
from tests.roles.tree import joined as bare

DEADLINE = 5.0


def at_the_deadline(sim, seconds, **options):
    """Run a round in which one site works for so long; return its status and the model."""
    workers = {"quick": Trains(1), "close": Trains(5, seconds=seconds, weight=3.0)}

    async def main():
        async with federation(workers, scheme="sim") as made:
            _, model = await made.play(quorum=1, **options)
            workers["close"].seconds = 0
            _, after = await made.play(1)
            await settle()
            left = [tasks_open(made, site) for site in workers]
            return made.seen.status(0)["close"], values(model), values(after), left

    return sim(main)


def test_f30_a_result_at_the_deadline_counts_whole_or_not_at_all(sim):
    """Sixty moments around it: the model is the one of the sites that are recorded as in it."""
    seen = set()
    for step in range(60):
        status, model, after, left = at_the_deadline(sim, 4.9 + step / 400, deadline=DEADLINE)
        seen.add(status)
        both = [(1, 1), (5, 3)]
        assert model == expected(*(both if status == "ok" else both[:1]))
        assert (after, left) == (expected(*both), [0, 0])
    assert seen == {"ok", "late"}


def test_f30_a_result_after_the_round_was_closed_touches_nothing(sim):
    """Enough had come; the site is late, and its next task is done."""
    status, model, after, left = at_the_deadline(sim, 60, size=1, sites=("quick", "close"))
    assert (status, model) == ("late", expected((1, 1)))
    assert (after, left) == (expected((1, 1), (5, 3)), [0, 0])


async def ignores_the_end(stream, moment, told):
    """Answer a task that was taken back long ago."""
    await moment.wait()
    try:
        stream.post(metrics_only())
        await stream.receive()
    except (FlareError, anyio.EndOfStream) as exc:
        told.append(type(exc).__name__)
        raise


def test_f30_a_result_after_its_round_or_its_job_ended_is_told_so(sim):
    """The channel is gone, and with it all that the result could be counted for."""
    told = []

    async def main():
        moment = anyio.Event()
        rogue = Rogue(lambda stream: ignores_the_end(stream, moment, told))
        async with federation({"a": Trains(1)}, scheme="sim") as made, joined(made, rogue):
            assert await round_of(made, ["a", "rogue"], quorum=1, deadline=5) == ["a"]
            moment.set()
            await settle()
            status = made.seen.status()
            return status, tasks_open(made), rogue.resets

    status, left, resets = sim(main)
    assert (status, left) == ({"a": "ok", "rogue": "late"}, 0)
    assert (told, resets) == (["ChannelReset"], ["the round was closed"])


def test_f30_a_result_for_a_job_that_nobody_knows_is_refused(sim):
    """A site opens no tasks, whatever it says on them."""

    async def main():
        async with federation({"a": Trains(1)}, scheme="sim") as made:
            async with bare(made, "stray", made.address) as session:
                channel = session.open(TASK_TOPIC, TASK_SCHEMA.encode(metrics_only()))
                with pytest.raises(FlareError, match="takes no such topic"):
                    await channel.receive()
            _, model = await made.play()
            return values(model), made.seen.status()

    assert sim(main) == (expected((1, 1)), {"a": "ok"})


BIG = model_of(400_000)


def twice(sim, moment):
    """Let a second session of a site bring another result at a moment of the first one's upload."""
    old, new = Trains(1, weight=2.0), Trains(5, weight=2.0)

    async def main():
        async with world({"a": old, "b": Trains(3)}, bandwidth=1e5) as made:

            async def again():
                await anyio.sleep(moment)
                await made.join("a", new)

            made.context.tasks.start_soon(again)
            with WeightedMean(BIG, order=["a", "b"]) as mean:
                async with made.cohort.round(
                    RoundTask("job", 0, 1), BIG, reducer=mean, weigh=lambda *_: 1.0
                ) as updates:
                    arrived = [site async for site, _ in updates]
                sites, weight = mean.statistics.sites, mean.statistics.weight
                return arrived, sites, weight, mean.finish().numpy()["w"][0]

    return sim(main)


@pytest.mark.slow
def test_f30_two_results_of_one_site_at_once_count_as_one(sim):
    """Thirty moments of the download, the work and the upload: the older one's, or the newer's."""
    first = set()
    for step in range(30):
        arrived, sites, weight, value = twice(sim, 0.5 + step / 2.5)
        assert sorted(arrived) == ["a", "b"]
        assert (sites, weight) == ((("a", 1.0), ("b", 1.0)), 2.0)
        assert value in {2.0, 4.0}
        first.add(float(value))
    assert first == {2.0, 4.0}


class Repeats(Answers):
    """A site that says its result again after its receipt."""

    async def posts(self, stream):
        """Answer the task, twice."""
        stream.tell(self.result())
        await stream.receive()
        stream.tell(self.result())
        self.said = stream.channel.is_open
        await anyio.sleep_forever()


def test_f30_the_same_result_twice_counts_once_while_the_round_is_committed(sim):
    """The body still writes its checkpoint; the repetition costs the channel, not the update."""
    rogue = Repeats([GOOD], tensor_digest(memoryview(GOOD)))

    async def main():
        async with federation({}, scheme="sim") as made, joined(made, rogue):
            with WeightedMean(MODEL, order=["rogue"]) as mean:
                async with made.cohort.round(
                    RoundTask("job", 0, 1), MODEL, sites=["rogue"], reducer=mean
                ) as updates:
                    arrived = [site async for site, _ in updates]
                    await settle()
                sites, model = mean.statistics.sites, mean.finish()
            return arrived, sites, made.seen.status(), values(model), tasks_open(made)

    arrived, sites, status, model, left = sim(main)
    assert (arrived, sites, status) == (["rogue"], (("rogue", 1.0),), {"rogue": "ok"})
    assert (model, left, rogue.said) == (values(MODEL), 0, True)
