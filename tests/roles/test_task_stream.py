"""Tasks without rounds, of real servers and clients, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import numpy as np
import pytest

from flare_async.errors import ConfigError, QuorumNotReached, TrainingFailed
from flare_async.roles.round import RoundTask
from flare_async.roles.task_stream import StreamTask
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import MODEL, SCHEMES, Seen, Trains, crash, federation, settle, values

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


class Free(Seen):
    """An observer that may hear of a site more than once."""

    def site_finished(self, number, record):
        """Keep the last record."""
        self.records[number, record.site] = record


class Tasks:
    """Gives each site ``most`` tasks from the newest version, a new one after each update."""

    def __init__(self, most=3):
        self.most, self.given, self.version, self.model = most, {}, 0, MODEL

    def __call__(self, site):
        number = self.given.get(site, 0)
        if number == self.most:
            return None
        self.given[site] = number + 1
        return StreamTask(RoundTask("job", number, 9), self.model, self.version)

    def next_version(self):
        """Make another version of the same tensors."""
        self.version += 1
        self.model = self.model.copy()


async def collect(made, tasks, most=99, **options):
    """Return (site, task, version) of the updates of a stream, a version an update."""
    made.cohort._observer = Free()
    found = []
    async with made.cohort.stream(tasks, **options) as updates:
        async for site, update in updates:
            found.append((site, update.number, update.version))
            tasks.next_version()
            if len(found) == most:
                break
    await settle()
    return found, updates


async def leave_with_an_error(made):
    """Raise out of the block, after an update."""
    async with made.cohort.stream(Tasks()) as updates:
        async for _ in updates:
            raise KeyError("mine")


def shelves(made):
    """Return how many offers are held in all."""
    shelved = [made.server.shelf, *(client.shelf for client in made.clients.values())]
    return sum(len(shelf._offers) for shelf in shelved)


def test_a_quick_site_works_more_often_than_a_slow_one(sim, scheme):
    """Nobody waits for anybody, and what a site brings says from which version it began."""
    workers = {"slow": Trains(1, seconds=10), "quick": Trains(2, seconds=3)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            found, updates = await collect(made, Tasks(), most=5)
            return found, updates.versions.most, shelves(made)

    found, most, held = sim(main)
    assert found[:4] == [("quick", 0, 0), ("quick", 1, 1), ("quick", 2, 2), ("slow", 0, 0)]
    assert (most, held) == (2, 0)


def test_a_stream_ends_when_nobody_is_given_anything(sim, scheme):
    """Every task that was given has come back."""
    workers = {"a": Trains(1, seconds=1), "b": Trains(2, seconds=2)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            return await collect(made, Tasks(most=2))

    found, updates = sim(main)
    assert sorted((site, number) for site, number, _ in found) == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1),
    ]  # fmt: skip
    assert updates.versions.live == ()


def test_no_more_than_concurrency_work_at_a_time(sim, scheme):
    """A draw by the seed says who; all have their turn."""
    workers = {f"s{i}": Trains(i, seconds=1) for i in range(6)}
    most = []

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            async with made.cohort.stream(Tasks(most=2), concurrency=2) as updates:
                most.extend([len(updates.working()) async for _ in updates])
        return len(most)

    assert sim(main) == 12
    assert max(most) <= 2


def test_updates_bring_the_tensors_and_the_receipts_end_the_offers(sim, scheme):
    """Without a reducer of the task, as in a round."""

    async def main():
        async with federation({"a": Trains(3)}, scheme=scheme) as made:
            made.cohort._observer = Free()
            async with made.cohort.stream(Tasks(most=1)) as updates:
                [(site, update)] = [item async for item in updates]
                update.commit()
                await settle()
                return site, values(update.update.tensors), update.record.status, shelves(made)

    site, brought, status, held = sim(main)
    assert (site, status, held) == ("a", "ok", 0)
    assert brought == (MODEL.numpy()["w"].ravel() + 3).tolist()


def test_leaving_the_block_takes_everything_back(sim, scheme):
    """Who works on is cancelled, and nothing stays on a shelf."""
    workers = {"a": Trains(1), "slow": Trains(2, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            found, _ = await collect(made, Tasks(), most=1)
            return found, shelves(made)

    assert sim(main) == ([("a", 0, 0)], 0)
    assert workers["slow"].cancelled == 1


def test_an_exception_leaves_the_block_as_it_is(sim, scheme):
    """No group around it, and everybody is reset."""
    workers = {"a": Trains(1), "slow": Trains(2, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            with pytest.raises(KeyError, match="mine"):
                await leave_with_an_error(made)
            await settle()
            return shelves(made)

    assert sim(main) == 0
    assert workers["slow"].cancelled == 1


def test_cancelling_whoever_waits_leaves_nothing(sim, scheme):
    """The block's tasks end with it."""
    workers = {"slow": Trains(2, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            task = made.context.tasks
            done = asyncio.Event()

            async def wait():
                try:
                    await collect(made, Tasks())
                finally:
                    done.set()

            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(wait())
                await workers["slow"].began.wait()
                waiting.cancel()
            await settle()
            assert task is made.context.tasks
            return done.is_set(), shelves(made)

    assert sim(main) == (True, 0)
    assert workers["slow"].cancelled == 1


def test_a_site_that_fails_again_and_again_is_asked_no_more(sim, scheme):
    """The others go on, and the failures are kept with their reasons."""
    bad = Trains(error=TrainingFailed("bad", "no data"))
    workers = {"a": Trains(1, seconds=1), "bad": bad}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            return await collect(made, Tasks(most=6))

    found, updates = sim(main)
    assert [site for site, _, _ in found] == ["a"] * 6
    assert len(bad.tasks) == 3
    assert updates.failures == {"bad": "no data"}
    assert [(record.site, str(record.status)) for record in updates.lost] == [("bad", "failed")] * 3


def test_too_few_sites_left_end_the_stream_with_their_reasons(sim, scheme):
    """Each has had its three tries."""
    workers = {name: Trains(error=TrainingFailed(name, "no data")) for name in "ab"}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with pytest.raises(QuorumNotReached, match="a: no data"):
                await collect(made, Tasks(most=9), quorum=2)

    sim(main)
    assert max(len(worker.tasks) for worker in workers.values()) == 3


def test_a_task_that_takes_too_long_is_taken_back(sim, scheme):
    """It counts as a failure, and the site's work is cancelled."""
    workers = {"a": Trains(1, seconds=1), "slow": Trains(2, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            return await collect(made, Tasks(most=20), most=20, timeout=5)

    found, updates = sim(main)
    assert {site for site, _, _ in found} == {"a"}
    assert workers["slow"].cancelled >= 2
    assert {str(record.status) for record in updates.lost} == {"late"}


def test_a_task_can_be_taken_back_and_given_anew(sim, scheme):
    """As where a version has become too old to work on."""
    workers = {"a": Trains(1, seconds=1), "slow": Trains(2, seconds=4)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            tasks, found = Tasks(most=4), []
            async with made.cohort.stream(tasks) as updates:
                async for site, update in updates:
                    found.append((site, update.version))
                    tasks.next_version()
                    if len(found) == 1:
                        updates.take_back("slow")
                        updates.take_back("nobody")
            return found

    found = sim(main)
    assert workers["slow"].cancelled == 1
    assert next(version for site, version in found if site == "slow") == 1


def test_a_site_that_dies_costs_the_others_nothing(sim, scheme):
    """Its task failed; the stream goes on with who is left."""
    workers = {"a": Trains(1, seconds=1), "dead": Trains(2, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            found = []
            async with made.cohort.stream(Tasks(most=3)) as updates:
                async for site, _ in updates:
                    found.append(site)
                    if len(found) == 1:
                        crash(made, "dead")
            return found

    assert sim(main) == ["a", "a", "a"]


def test_a_site_that_comes_back_is_asked_again(sim, scheme):
    """Though nobody else works meanwhile."""
    workers = {"a": Trains(1, seconds=5)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            found = []

            async def come_back():
                await asyncio.sleep(20)
                await made.join("a", Trains(2, seconds=5))

            async with made.cohort.stream(Tasks(most=3)) as updates:
                async for site, update in updates:
                    found.append((site, update.number))
                    if len(found) == 1:
                        crash(made, "a")
                        made.context.tasks.start_soon(come_back)
            return found

    found = sim(main)  # the task that it had when it went may be lost
    assert (found[0], found[-1]) == (("a", 0), ("a", 2))


def test_a_version_lives_no_longer_than_somebody_works_on_it(sim, scheme):
    """Not even where the receipts of what was made from it are still to come."""
    workers = {"a": Trains(1, seconds=1)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            made.cohort._observer = Free()
            tasks, alive, counts = Tasks(most=5), [], []
            async with made.cohort.stream(tasks) as updates:
                async for _ in updates:
                    view = np.zeros(6, np.float32)
                    alive.append(weakref.ref(view))
                    tasks.model, tasks.version = (
                        TensorSet.from_params({"w": view}),
                        tasks.version + 1,
                    )
                    del view
                    workers["a"].tasks.clear()
                    gc.collect()
                    counts.append(sum(one() is not None for one in alive))
            return counts

    assert max(sim(main)) <= 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"quorum": 3}, "concurrency"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(sim, scheme, options, field):
    """Before anybody is asked."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            with pytest.raises(ConfigError) as caught:
                await collect(made, Tasks(), **options)
            return caught.value.field

    assert sim(main) == field
