"""What a server accepts from a site, and what is left of a lease when it ends."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from flare_async.errors import ResourceLimit, TrainerIdle, TrainingFailed, TransferError
from flare_async.roles.messages import TASK_TOPIC
from flare_async.roles.round import RoundTask
from flare_async.transfer.sink import MemorySink
from tests.roles.federation import MODEL, SCHEMES, Trains, federation, settle
from tests.roles.rogue import Rogue, joined, round_of, says_metrics, spec, tasks_open, until_the_end

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


class Stages:
    """A reducer that takes updates into sinks of one kind and does nothing with them."""

    def __init__(self, sink=MemorySink):
        self.sink, self.staged, self.discarded = sink, [], []

    def stage(self, site, weight, kind=None):
        """Return a sink."""
        self.staged.append(site)
        return self.sink()

    def commit(self, site):
        """Take a whole update."""

    def discard(self, site):
        """Take note that there is none."""
        self.discarded.append(site)


class FullDisk(MemorySink):
    """A sink whose memory cannot be had."""

    def destination(self, *range_of_tensor):
        """Fail."""
        raise TransferError("spool: no space left")

    adopt = adopt_all = destination


@pytest.mark.parametrize(
    ("name", "shape", "problem", "pulls"),
    [
        ("validate", (2, 3), "24 bytes were offered and not asked for", 0),
        ("train", (2**50,), f"offers {2**52} bytes, the model has 24", 0),
        ("train", (3, 2), "[3, 2]", 1),
    ],
)
def test_an_update_unlike_the_model_is_refused_before_it_is_pulled(
    sim, scheme, name, shape, problem, pulls
):
    """Without a reducer, too: a site cannot make the server take memory."""

    async def answer(stream):
        stream.tell(rogue.result())
        await until_the_end(stream)
        stream.finish()

    rogue, good = Rogue(answer, [spec(*shape)]), Rogue(says_metrics)

    async def main():
        async with (
            federation({}, scheme=scheme) as made,
            joined(made, rogue),
            joined(made, good, "good"),
        ):
            arrived = await round_of(made, ["rogue", "good"], name, quorum=1)
            return arrived, made.seen.records[0, "rogue"]

    arrived, record = sim(main)
    assert (arrived, record.status, len(rogue.pulls)) == (["good"], "refused", pulls)
    assert problem in record.reason


@pytest.mark.parametrize("weight", [0, -1, float("nan"), "3", None])
def test_an_update_with_a_bad_weight_is_refused_before_it_is_staged(sim, scheme, weight):
    """Nothing of it is pulled."""
    reducer = Stages()

    async def main():
        async with federation({"a": Trains(), "b": Trains()}, scheme=scheme) as made:
            arrived = await round_of(
                made,
                ["a", "b"],
                quorum=1,
                reducer=reducer,
                weigh=lambda site, meta: weight if site == "a" else 1.0,
            )
            return arrived, made.seen.records[0, "a"]

    arrived, record = sim(main)
    assert (arrived, record.status) == (["b"], "refused")
    assert (reducer.staged, reducer.discarded) == (["b"], ["a"])


@pytest.mark.parametrize("weight", [np.int64(3), np.float32(3), 3])
def test_numbers_of_numpy_are_weights(sim, scheme, weight):
    """They count as Python's own do."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            await round_of(made, ["a"], quorum=1, weigh=lambda site, meta: weight)
            return made.seen.records[0, "a"]

    record = sim(main)
    assert (type(record.weight), record.weight, record.status) == (float, 3.0, "ok")


@pytest.mark.parametrize("error", [MemoryError(), KeyError("steps")])
def test_an_unexpected_error_fails_the_site_and_not_the_round(sim, scheme, error):
    """Whatever a lease meets with one site, the others' updates are not lost."""

    def weigh(site, meta):
        if site == "a":
            raise error
        return 1.0

    async def main():
        async with federation({"a": Trains(), "b": Trains()}, scheme=scheme) as made:
            arrived = await round_of(made, ["a", "b"], quorum=1, weigh=weigh)
            await settle()
            return arrived, made.seen.records[0, "a"], tasks_open(made, "a")

    arrived, record, left = sim(main)
    assert (arrived, record.status, left) == (["b"], "failed", 0)
    assert type(error).__name__ in record.reason


def test_a_spool_that_is_full_ends_the_round_under_its_own_name(sim, scheme):
    """It is no site's failure, and every task is taken back."""
    workers = {"a": Trains(), "slow": Trains(seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            with pytest.raises(TransferError, match="no space left"):
                await round_of(made, ["a", "slow"], quorum=1, reducer=Stages(FullDisk))
            await settle()
            return made.seen.status()

    assert sim(main) == {"a": "late", "slow": "late"}
    assert workers["slow"].cancelled == 1


def test_a_task_says_how_much_time_its_round_has_left(sim, scheme):
    """A site that is asked late has less of it."""

    async def slow(stream):
        await anyio.sleep(10)
        await says_metrics(stream)

    rogues = {name: Rogue(slow) for name in "abc"}

    async def main():
        async with federation({}, scheme=scheme) as made:
            made.cohort._window = 1
            for name, rogue in rogues.items():
                made.context.tasks.start_soon(rogue.serve, made, name)
            await made.server.wait_for(list("abc"), 3)
            return await round_of(made, list("abc"), deadline=60)

    assert sim(main) == ["a", "b", "c"]
    remaining = [round(rogue.offers[0].remaining) for rogue in rogues.values()]
    assert remaining == [60, 50, 40]


def test_a_task_offered_again_counts_its_attempts(sim, scheme):
    """Each session of the site gets the next number."""

    async def waits(stream):
        await anyio.sleep_forever()

    rogues = [Rogue(waits), Rogue(waits), Rogue(says_metrics)]

    async def main():
        async with federation({}, scheme=scheme) as made, joined(made, rogues[0]):

            async def come_back():
                for rogue in rogues[1:]:
                    await settle()
                    made.context.tasks.start_soon(rogue.serve, made, "rogue")

            made.context.tasks.start_soon(come_back)
            return await round_of(made, ["rogue"])

    assert sim(main) == ["rogue"]
    assert [rogue.offers[0].attempt for rogue in rogues] == [0, 1, 2]


def test_a_round_that_is_given_up_offers_nothing_more(sim, scheme):
    """Sites under way and sites that were not asked are recorded as late."""
    workers = {"a": Trains(), **{name: Trains(seconds=3600) for name in "bcd"}}

    async def give_up(made):
        async with made.cohort.round(RoundTask("job", 0, 1), MODEL, quorum=1) as updates:
            async for _ in updates:
                await settle()
                raise ZeroDivisionError

    async def main():
        async with federation(workers, scheme=scheme, window=1) as made:
            with pytest.raises(ZeroDivisionError):
                await give_up(made)
            await settle()
            return made.seen

    seen = sim(main)
    assert [site for _, site in seen.started] == ["a", "b"]
    assert seen.status() == {"a": "ok", "b": "late", "c": "late", "d": "late"}
    reasons = [record.reason for record in seen.records.values()]
    assert reasons == ["", "the round was given up", "was not asked", "was not asked"]


def test_a_lease_that_ends_before_its_first_step_opens_no_channel(sim, scheme):
    """The block is left at once: the first channel of the server is still to come."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            async with made.cohort.round(RoundTask("job", 0, 1), MODEL):
                pass
            await settle()
            channel = made.server.sites["a"].open(TASK_TOPIC)
            return channel.id, made.seen.status()

    assert sim(main) == (2, {"a": "late"})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainerIdle("a", "did nothing"), "trainer_idle"),
        (TrainingFailed("a", "raised"), "training_failed"),
        (ResourceLimit("memory_bytes", 2, 1), "training_failed"),
    ],
)
def test_the_kind_of_a_failure_arrives(sim, scheme, error, code):
    """Programs tell them apart by the record; what a site cannot fail with is user code's."""

    async def main():
        workers = {"a": Trains(error=error), "b": Trains()}
        async with federation(workers, scheme=scheme) as made:
            await made.play(quorum=1)
            return made.seen.records

    records = sim(main)
    assert (records[0, "a"].code, records[0, "b"].code) == (code, "")
    assert records[0, "a"].status == "failed"
