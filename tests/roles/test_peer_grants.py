"""What sites may open to each other: what their job grants, as who they are, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import ConfigError, OfferNotFound, SessionGone
from flare_async.limits import Limits
from flare_async.roles.granted import granted
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC, TaskOffer
from flare_async.roles.peer_messages import (
    GRANT_SCHEMA,
    GRANT_TOPIC,
    PEER_SCHEMA,
    PEER_TOPIC,
    Grant,
    PeerOpen,
)
from flare_async.transfer.sink import MemorySink
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.roles.federation import MODEL, Trains, expected, federation, values
from tests.roles.peering import (
    NAMES,
    claim,
    met,
    peer_round,
    peers,
    peers_below,
    refusal,
    until,
    workers,
)
from tests.roles.tree import ONE, joined

REFUSED = int(ResetCode.REFUSED)
FAR = {("r1", "a"): Trains(), ("r3", "c"): Trains()}


def test_without_a_grant_nothing_is_passed_on(sim):
    """For another job, and after the block."""

    async def main():
        async with federation(workers()) as made:
            async with granted(made.server, "job", NAMES):
                via = (await met(made, "a")).sites["b"].via
                refused = [await refusal(claim(via, "b", job="another job"))]
            refused.append(await refusal(claim(via, "b")))
            await until(lambda: made.clients["a"].peers.server("job") is None)
            return refused

    for error in sim(main):
        assert (error.reset_code, "no grant to reach b" in error.message) == (REFUSED, True)


def test_a_site_outside_of_the_grant_reaches_nobody_and_is_reached_by_nobody(sim):
    """Two sites take part in the job, a third one is connected."""

    async def main():
        async with peers(names=("a", "b")) as made:
            via = (await met(made, "a", names=("a", "b"))).sites["b"].via
            async with joined(made, "d", made.address) as session:
                return [await refusal(claim(via, "d")), await refusal(claim(session, "a"))]

    assert [error.reset_code for error in sim(main)] == [REFUSED, REFUSED]


def test_who_opened_is_who_the_link_says(sim):
    """A site that claims another origin is taken for itself, and is no reader."""

    async def main():
        async with peers() as made:
            via = (await met(made, "a")).sites["b"].via
            offer = made.clients["b"].shelf.put(MODEL, readers=["c"])
            return await refusal(claim(via, "b", origin="c", key=offer.ref.key))

    assert sim(main).reset_code == ResetCode.NOT_FOUND


def test_an_offer_is_pulled_by_its_readers_only(sim):
    """A peer that knows the key of another one's offer gets as much as who guesses."""

    async def main():
        async with peers() as made:
            offer = made.clients["b"].shelf.put(MODEL, readers=["c"])
            return [await pulled(made, site, offer.ref) for site in ("c", "a")]

    assert sim(main) == [values(MODEL), None]


async def pulled(made, site, ref):
    """Return what a site gets of another one's offer; None is nothing."""
    sink, session = MemorySink(), (await met(made, site)).sites[ref.owner]
    try:
        await made.context.downloader.fetch(session, ref, sink)
    except OfferNotFound:
        return None
    return values(sink.tensors)


def test_a_peer_may_pull_and_give_tasks_and_nothing_else(sim):
    """Whatever other topics the server may use."""

    async def main():
        async with peers() as made:
            via = (await met(made, "a")).sites["b"].via
            return await refusal(claim(via, "b", topic="start"))

    error = sim(main)
    assert (error.reset_code, error.message) == (REFUSED, "a peer may pull and give tasks only")


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_every_hop_counts(sim, hops):
    """Two relays and the server lie between: three hops are enough, and no fewer."""

    async def main():
        async with peers_below({"r1": "server", "r3": "server"}, FAR) as made:
            via = (await met(made, "a", names=("a", "c"))).sites["c"].via
            return await refusal(claim(via, "c", hops=hops))

    error = sim(main)
    if hops == 3:
        assert error.reset_code == ResetCode.NOT_FOUND
    else:
        assert (error.reset_code, "no hop is left" in error.message) == (REFUSED, True)


def test_a_relay_speaks_for_its_own_sites_only(sim):
    """What it says a site of another parent has opened is refused."""

    async def main():
        below = {("r1", "a"): Trains(), ("server", "c"): Trains()}
        async with peers_below(ONE, below) as made:
            await met(made, "a", names=("a", "c"))
            parent = made.relays["r1"]._upward.parent
            return await refusal(claim(parent, "c", origin="c"))

    assert sim(main).reset_code == REFUSED


def test_a_relay_judges_by_its_own_copy_of_the_grant(sim):
    """A site that is asked by its relay for a job without a grant refuses, too."""

    async def main():
        async with peers_below(ONE, {("r1", "a"): Trains(), ("r1", "b"): Trains()}) as made:
            await met(made, "a", names=("a", "b"))
            site = made.relays["r1"].directory.sites["b"]
            channel = claim(site, "", origin="a", job="another job")
            return await refusal(channel)

    assert sim(main).message == "b has no grant for this job and origin"


def test_a_site_cannot_grant_anything(sim):
    """The topic is the server's: from a site it is refused like any other."""

    async def main():
        async with (
            federation({"a": Trains()}) as made,
            joined(made, "evil", made.address) as session,
        ):
            header = GRANT_SCHEMA.encode(Grant("job", ("evil", "a")))
            error = await refusal(session.open(GRANT_TOPIC, header))
            return error, await refusal(claim(session, "a"))

    granting, reaching = sim(main)
    assert (granting.reset_code, reaching.reset_code) == (REFUSED, REFUSED)


def test_a_malformed_open_is_a_protocol_error(sim):
    """And nothing but that channel ends."""

    async def main():
        async with peers() as made:
            server = await met(made, "a")
            via = server.sites["b"].via
            options = OpenOptions(destination="b", hops=2)
            error = await refusal(via.open(PEER_TOPIC, b"nonsense", options))
            return error.reset_code, via.ended

    assert sim(main) == (ResetCode.PROTOCOL, False)


class Desk:
    """Notes which tasks it is asked about, and takes all of them."""

    def __init__(self, worker):
        self.asked, self._worker = [], worker

    def worker(self, task, peers):
        """Take a task."""
        self.asked.append((task, peers is not None))
        return self._worker

    def over(self, job):
        """Note the end of a job."""
        self.asked.append((job, "over"))


def test_only_the_server_gives_tasks_to_a_desk(sim):
    """What a peer calls the same is training, as all that a peer may ask for."""

    async def main():
        async with federation(workers()) as made:
            desk = made.clients["b"]._desk = Desk(Trains(10))
            made.clients["b"].peers.on_over = desk.over
            async with granted(made.server, "job", NAMES):
                _, mean = await peer_round(await met(made, "a"), ("b",))
                before = list(desk.asked)
                await made.play(sites=("b",))
            await until(lambda: desk.asked[-1:] == [("job", "over")])
            return mean, before, desk.asked

    mean, before, asked = sim(main)
    assert (mean, before) == (expected((2, 3)), [])
    assert asked == [("train", True), ("job", "over")]


def test_what_is_kept_for_a_job_ends_with_the_grace_of_a_lost_session(sim):
    """Its server has restarted, and grants nothing any more."""

    async def main():
        limits = Limits(session_grace=70)
        async with federation({"a": Trains(), "b": Trains()}, limits=limits) as made:
            desk, found = Desk(Trains()), made.clients["a"].peers
            found.on_over = desk.over
            header = GRANT_SCHEMA.encode(Grant("job", ("a", "b")))
            made.server.sites["a"].open(GRANT_TOPIC, header)
            via = (await met(made, "a", names=("a", "b"))).sites["b"].via
            via.leave(REFUSED, "gone", SessionGone("server", "does not know it"))
            await asyncio.sleep(69)
            before, held = list(desk.asked), found.server("job") is not None
            await asyncio.sleep(2)
            return held, before, desk.asked, found.server("job")

    assert sim(main) == (True, [], [("job", "over")], None)


@pytest.mark.parametrize("scheme", ["memory", "sim"])
def test_a_flood_of_tasks_leaves_the_server_its_channels(sim, scheme):
    """A peer may have a quarter of them open to one site; the rest of its tasks is refused."""

    async def main():
        slow = workers(b=Trains(2, weight=3, seconds=1))
        async with peers(slow, scheme=scheme, limits=Limits(channels=64)) as made:
            via = (await met(made, "a")).sites["b"].via
            flood = [task_of_a(made, via) for _ in range(60)]
            await until(lambda: sum(not channel.is_open for channel in flood) >= 44)
            await made.play(sites=("b",))
            reasons = {str(channel.failed.message) for channel in flood if channel.failed}
            return made.seen.status(), sum(not one.is_open for one in flood), reasons

    status, refused, reasons = sim(main)
    assert status == {"b": "ok"}
    assert refused >= 44
    assert "a has too many channels to b open" in reasons


def task_of_a(made, via):
    """Offer a task of site a to site b, as a peer does, and return the channel."""
    offer = made.clients["a"].shelf.put(MODEL, readers=["b"])
    header = OFFER_SCHEMA.encode(TaskOffer("job", "train", 0, 1, 1, 1, offer.ref))
    wrapped = PEER_SCHEMA.encode(PeerOpen("job", "", TASK_TOPIC, header))
    return via.open(PEER_TOPIC, wrapped, OpenOptions(destination="b", hops=9))


def test_more_sites_than_one_message_can_name_are_refused(sim):
    """Before anything is granted; the limit is named."""

    async def main():
        async with federation({"a": Trains()}) as made:
            names = ["a", *(f"site-{number}" for number in range(2100))]
            try:
                async with granted(made.server, "job", names):
                    return None
            except ConfigError as exc:
                return exc, made.clients["a"].peers.server("job")

    error, server = sim(main)
    assert (error.field, server) == ("limits.control_items", None)
