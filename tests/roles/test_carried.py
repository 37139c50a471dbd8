"""Models and updates behind their messages: when they are, and that all others are pulled."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import MIB, Limits
from flare_async.roles import exchange
from flare_async.roles.carriage import Carriage
from flare_async.roles.carrying import bring_model, digest_of, send_result
from flare_async.roles.messages import TaskOffer, TaskResult
from flare_async.roles.stream import TaskStream
from flare_async.testing.pair import connected
from flare_async.transfer.carried import carried_digest, fits_digest
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.pull import TensorRef
from flare_async.wire.frames import Data
from flare_async.wire.session import OpenOptions
from tests.net.peers import memory_links, sim_links
from tests.roles.federation import SCHEMES, Trains, federation, settle, values
from tests.roles.rogue import Rogue, joined, round_of, says_metrics, until_the_end
from tests.transfer.test_carried import offered

NBYTES = 24  # of the model
BOTH = pytest.mark.parametrize("scheme", SCHEMES)


class Watched(Downloader):
    """A downloader that keeps whom it has pulled from, besides manifests."""

    pulled = ()

    async def fetch(self, session, ref, sink, **options):
        """Pull."""
        self.pulled = (*self.pulled, session.peer)
        return await super().fetch(session, ref, sink, **options)


async def played(made):
    """Play one round; return the mean's first value, the records and who was pulled from."""
    object.__setattr__(made.context, "downloader", watched(made.context))
    arrived, mean = await made.play()
    record = made.seen.records[0, arrived[0].site]
    told = str(record.status), record.bytes_down, record.bytes_up
    return values(mean)[0], told, made.context.downloader.pulled


def watched(context):
    """Return a downloader in place of a context's own."""
    return Watched(context.limits, context.downloader._layouts)


@BOTH
@pytest.mark.parametrize(
    ("most", "pulled"), [(NBYTES, ()), (NBYTES - 1, ("server", "a")), (0, ("server", "a"))]
)
def test_what_is_small_is_carried_and_everything_else_is_pulled(sim, scheme, most, pulled):
    """The sum, the receipts and the bytes of the record are the same."""

    async def main():
        limits = Limits(carried_bytes=most)
        async with federation({"a": Trains(2)}, scheme=scheme, limits=limits) as made:
            return await played(made)

    assert sim(main) == (2.0, ("ok", NBYTES, NBYTES), pulled)


@BOTH
def test_a_result_that_got_no_credit_is_pulled(sim, scheme):
    """Half of the budget is never promised; the model needs none of it."""

    async def main():
        async with federation({"a": Trains(2)}, scheme=scheme) as made:
            budget = made.server.sites["a"].machine._table._budget
            budget.take(budget.total // 2 - NBYTES + 1)
            return await played(made)

    assert sim(main) == (2.0, ("ok", NBYTES, NBYTES), ("a",))


class HasNoRoom(Trains):
    """A site that fails before it has read its model."""

    def sink(self, memory_bytes):
        """Return no place for a model."""
        raise OSError(28, "No space left on device")


def test_a_model_that_nobody_reads_keeps_no_channel_open(sim):
    """A site that fails at every task leaves nothing behind at either end."""

    async def main():
        workers = {"a": HasNoRoom(), "b": Trains()}
        async with federation(workers, scheme="sim") as made:
            for number in range(3):
                await made.play(number, quorum=1)
                await settle(5)
            assert "No space left" in made.seen.records[2, "a"].reason
            return len(made.server.sites["a"].channels), len(made.server.sites["b"].channels)

    left, usual = sim(main)
    assert left == usual


def test_a_model_that_was_damaged_on_its_way_is_pulled(sim, monkeypatch):
    """Its digest does not fit; the offer is still there. So is that of an update."""
    monkeypatch.setattr("flare_async.roles.carriage.carried_digest", wrong_digest)
    monkeypatch.setattr("flare_async.roles.carrying.carried_digest", wrong_digest)

    async def main():
        async with federation({"a": Trains(2)}, scheme="sim") as made:
            return await played(made)

    assert sim(main) == (2.0, ("ok", 2 * NBYTES, NBYTES), ("server", "a"))


def wrong_digest(offer, *, by_reference):
    """Return a digest that nothing has."""
    return bytes(32)


@BOTH
@pytest.mark.parametrize(("more", "nbytes"), [(1, NBYTES + 1), (MIB, 2 * MIB)])
def test_a_site_that_sends_more_than_it_may_fails_by_name(sim, scheme, more, nbytes):
    """Without a byte of it being kept."""

    async def answer(stream):
        ref = rogue.result(nbytes).update
        stream.post(TaskResult(ref, "FULL", {}, {"weight": 1.0}, 0.0, carried=bytes(32)))
        stream.channel.send_all([bytes(more)], last=True)
        await until_the_end(stream)

    rogue = Rogue(answer)

    async def main():
        async with federation({"b": Trains()}, scheme=scheme) as made, joined(made, rogue):
            arrived = await round_of(made, ["rogue", "b"], quorum=1)
            return arrived, made.seen.records[0, "rogue"]

    arrived, record = sim(main)
    assert (arrived, record.status, record.code) == (["b"], "failed", "remote_protocol")
    assert f"{nbytes} bytes follow, {NBYTES} may" in record.reason


@BOTH
def test_a_result_whose_tensors_do_not_follow_fails_by_name(sim, scheme):
    """It ends its side in the middle of them."""

    async def answer(stream):
        ref = rogue.result(NBYTES).update
        stream.post(TaskResult(ref, "FULL", {}, {"weight": 1.0}, 0.0, carried=bytes(32)))
        stream.channel.send_all([bytes(4)], last=True)
        await until_the_end(stream)

    rogue = Rogue(answer)

    async def main():
        async with federation({"b": Trains()}, scheme=scheme) as made, joined(made, rogue):
            arrived = await round_of(made, ["rogue", "b"], quorum=1)
            return arrived, made.seen.records[0, "rogue"]

    arrived, record = sim(main)
    assert (arrived, record.status) == (["b"], "failed")
    assert "tensors end 20 bytes early" in record.reason


@pytest.mark.parametrize(("name", "takes"), [("validate", 0), ("train", NBYTES)])
def test_credit_is_held_for_updates_that_are_asked_for(sim, monkeypatch, name, takes):
    """Metrics need none; and a site whose hello has no credit for a model pulls it."""
    found = []

    def noted(setting, session):
        found.append(carriage_of(setting, session))
        return found[-1]

    carriage_of = exchange.carriage_of
    monkeypatch.setattr(exchange, "carriage_of", noted)

    async def main():
        rogue = Rogue(says_metrics)
        async with federation({}) as made, joined(made, rogue):
            return await round_of(made, ["rogue"], name, quorum=1)

    assert sim(main) == ["rogue"]
    assert found == [Carriage(None, takes)]


def test_a_site_bounds_what_a_task_may_bring(sim):
    """A server says how large its model is: beyond the site's own limit that ends the task."""
    offer = TaskOffer("job", "train", 0, 1, 0, 0, TensorRef("s", "k", 0, b"", MIB), carried=b"")

    async def main():
        async with connected(memory_links) as pair:
            mine, theirs = await pair.open("task", OpenOptions(urgent=True))
            stream = TaskStream(mine)
            with pytest.raises(RemoteProtocolError, match="1048576 bytes follow a task, 262144"):
                await bring_model(None, stream, mine.session, offer, None)
            return theirs.is_open

    assert sim(main)


@pytest.mark.parametrize(("most", "carried"), [(43, b""), (42, None), (0, None)])
def test_a_site_carries_no_more_than_its_own_limit(sim, most, carried):
    """Whatever its server would take."""
    held, _ = offered()
    task = TaskOffer("job", "train", 0, 1, 0, 0, held.ref, takes=MIB)

    async def main():
        async with connected(memory_links, Limits(carried_bytes=most)) as pair:
            return digest_of(held, task, pair.here)

    assert sim(main) == carried


@pytest.mark.parametrize(("links", "frames"), [(sim_links(), 2), (memory_links, 5_001)])
def test_many_tiny_tensors_are_no_flood_of_frames(sim, links, frames):
    """Over bytes they follow their message as one frame; over memory nothing is copied."""
    held, _ = offered({f"t{at}": np.full(2, at, np.float64) for at in range(5_000)})
    digest = carried_digest(held, by_reference=False)

    async def main():
        async with connected(links) as pair:
            options = OpenOptions(urgent=True, window=MIB)
            mine, theirs = await pair.open("task", options)
            result = TaskResult(held.ref, "FULL", {}, {}, 0.0, carried=digest)
            send_result(TaskStream(theirs), result, held)
            stream = TaskStream(mine)
            assert await stream.receive() == result
            row = await stream.carried(held.ref.nbytes)
            return [f.kind for f in pair.far.sent() if f.is_payload].count(Data), row

    count, row = sim(main)
    assert count == frames
    assert fits_digest(row, digest)
