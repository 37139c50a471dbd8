"""Who may come in, what a site does with its task, and what is left when either side goes."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from flare_async.errors import (
    ChannelReset,
    ConnectFailed,
    HandshakeFailed,
    LinkLost,
    QuorumNotReached,
    StartFailed,
    TrainingFailed,
)
from flare_async.limits import Limits
from flare_async.net.session import Session
from flare_async.roles.client import Client
from flare_async.roles.messages import TASK_TOPIC
from flare_async.roles.round import RoundTask
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import Side
from tests.roles.federation import (
    MODEL,
    SCHEMES,
    Trains,
    crash,
    expected,
    federation,
    settle,
    values,
)

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


def held(made, site):
    """Return how many updates a site keeps for the server."""
    return len(made.clients[site].shelf._offers)


async def connected(made, name, role="client"):
    """Connect under a name and role; return how the session ended."""
    endpoint = made.context.endpoint(name, role)
    link = await made.network.connect(made.address)
    try:
        async with Session(link, Side.CONNECTOR, endpoint) as session:
            with anyio.move_on_after(1):
                await anext(session)
    except (HandshakeFailed, LinkLost) as exc:
        return str(exc)
    return "stays"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("site 1", "client"),
        ("../up", "client"),
        ("-a", "client"),
        ("a", "trainer"),
        ("é", "client"),
    ],
)
def test_a_peer_without_a_sites_name_or_role_is_refused(sim, scheme, name, role):
    """It is told why, and no site of that name appears."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            return await connected(made, name, role), list(made.server.sites)

    error, sites = sim(main)
    assert "not a site's name or role" in error
    assert sites == ["a"]


def test_a_name_of_128_characters_is_taken(sim, scheme):
    """Letters, digits, dots, dashes and at signs, as hosts and mail addresses have them."""
    name = ("a.b-c@d_" * 16)[:128]

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            return await connected(made, name)

    assert sim(main) == "stays"


def test_missing_sites_are_named_after_start_timeout(sim, scheme):
    """The wait is bounded by the limit, in virtual time to the second."""

    async def main():
        limits = Limits(start_timeout=45)
        async with federation({"a": Trains()}, scheme=scheme, limits=limits) as made:
            began = asyncio.get_running_loop().time()
            with pytest.raises(StartFailed) as caught:
                await made.server.wait_for(["a", "b", "c"], 2)
            took = asyncio.get_running_loop().time() - began
            present = await made.server.wait_for(["b", "a"], 1)
            return caught.value, took, present

    error, took, present = sim(main)
    assert (error.needed, error.present, error.missing) == (2, ("a",), ("b", "c"))
    assert (round(took, 3), present) == (45, ("a",))


def test_a_late_site_ends_the_wait_for_all(sim, scheme):
    """The sites come back in the order that was asked for, not in that of their arrival."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:

            async def late():
                await anyio.sleep(5)
                await made.join("b", Trains())

            made.context.tasks.start_soon(late)
            present = await made.server.wait_for(["b", "a"], 2)
            return present, asyncio.get_running_loop().time() < 10

    assert sim(main) == (("b", "a"), True)


def test_nobody_listening_is_a_failed_connect(sim, scheme):
    """The error names the address."""

    async def main():
        async with federation({}, scheme=scheme) as made:
            client = Client(made.context, "a", Trains())
            with pytest.raises(ConnectFailed, match=f"{scheme}://nowhere"):
                await client.run(f"{scheme}://nowhere")

    sim(main)


async def fenced(made, old, new, **options):
    """Play a round in which site ``a`` comes back under a newer session while it works."""

    async def again():
        await old.began.wait()
        await made.join("a", new)

    made.context.tasks.start_soon(again)
    _, model = await made.play(0, **options)
    return model, made.seen.records[0, "a"]


def test_a_newer_session_of_a_site_gets_the_task_of_the_older(sim, scheme):
    """The older one's work is cancelled; the site counts once, with what the newer one brings."""
    old, new = Trains(1, seconds=3600), Trains(5)

    async def main():
        async with federation({"a": old, "b": Trains(3)}, scheme=scheme) as made:
            model, record = await fenced(made, old, new)
            return model, record, made.seen.started, asyncio.get_running_loop().time()

    model, record, started, now = sim(main)
    assert (record.status, old.cancelled, len(new.tasks)) == ("ok", 1, 1)
    assert values(model) == expected((5, 1), (3, 1))
    assert started == [(0, "a"), (0, "b")]
    assert now < 10


def test_a_task_is_offered_again_no_more_than_max_resends_times(sim, scheme):
    """Then the site has failed, and the newer session gets the next task."""
    old, new = Trains(1, seconds=3600), Trains(5)

    async def main():
        limits = Limits(max_resends=0)
        async with federation({"a": old, "b": Trains(3)}, scheme=scheme, limits=limits) as made:
            _, failed = await fenced(made, old, new, quorum=1)
            await made.server.wait_for(["a", "b"], 2)
            _, model = await made.play(1)
            return failed, model

    failed, model = sim(main)
    assert (failed.status, old.cancelled, len(new.tasks)) == ("failed", 1, 1)
    assert "a newer session" in failed.reason
    assert values(model) == expected((5, 1), (3, 1))


def test_a_fenced_session_does_not_remove_the_newer_one(sim, scheme):
    """Its end comes after the newer one's begin."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            first = made.server.sites["a"]
            made.context.tasks.start_soon(made.join, "a", Trains())
            await settle()
            return first.ended, made.server.sites["a"] is not first

    assert sim(main) == (True, True)


def test_a_site_that_dies_fails_its_part(sim, scheme):
    """The round goes on without it, and its work is cancelled."""
    workers = {"a": Trains(1), "b": Trains(9, seconds=3600)}

    async def main():
        async with federation(workers, scheme=scheme) as made:

            async def saw():
                await workers["b"].began.wait()
                crash(made, "b")

            made.context.tasks.start_soon(saw)
            _, model = await made.play(quorum=1)
            await settle()
            return model, made.seen.records[0, "b"], list(made.server.sites)

    model, record, sites = sim(main)
    assert (record.status, workers["b"].cancelled) == ("failed", 1)
    assert "connection" in record.reason
    assert values(model) == expected((1, 1))
    assert sites == ["a"]


def test_sites_that_all_die_are_a_quorum_not_reached(sim, scheme):
    """No round waits for sites that are gone."""
    workers = {name: Trains(seconds=3600) for name in ("a", "b")}

    async def main():
        async with federation(workers, scheme=scheme) as made:

            async def saw():
                for name, worker in workers.items():
                    await worker.began.wait()
                    crash(made, name)

            made.context.tasks.start_soon(saw)
            with pytest.raises(QuorumNotReached) as caught:
                await made.play()
            return caught.value.failures

    failures = sim(main)
    assert next(iter(failures)) == "a"
    assert all("connection" in reason or "closed" in reason for reason in failures.values())


def test_a_link_that_is_lost_for_a_while_changes_nothing(sim, scheme):
    """The site trains on, its result comes over the next link, and it was asked once."""
    workers = {"a": Trains(1), "b": Trains(9, seconds=100)}

    async def main():
        async with federation(workers, scheme=scheme) as made:

            async def saw():
                await workers["b"].began.wait()
                for _ in range(20):
                    await anyio.sleep(5)
                    if scheme == "sim":
                        made.server.sites["b"].link.cut()

            made.context.tasks.start_soon(saw)
            _, model = await made.play()
            return model, made.seen.status(), made.server.sites["b"].epoch

    model, status, epoch = sim(main)
    assert values(model) == expected((1, 1), (9, 1))
    assert (status, len(workers["b"].tasks)) == ({"a": "ok", "b": "ok"}, 1)
    assert epoch >= 15 if scheme == "sim" else epoch == 0


def test_a_site_finds_its_server_after_a_restart(sim, scheme):
    """A server that has forgotten all sessions gets new ones, and the site its task again."""
    workers = {"a": Trains(1, seconds=30)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            if scheme == "memory":
                return True
            made.server._reception._sessions.clear()
            older = made.server.sites["a"]
            older.link.cut()
            while made.server.sites["a"] is older:
                await anyio.sleep(1)
            _, model = await made.play()
            return values(model) == expected((1, 1))

    assert sim(main)


def test_a_client_that_is_cancelled_says_goodbye(sim, scheme):
    """The server knows at once, without a timeout; the task under way is cancelled."""
    worker = Trains(seconds=3600)

    async def main():
        async with federation({"a": Trains(1)}, scheme=scheme) as made:
            scope = anyio.CancelScope()

            async def leaves():
                with scope:
                    await made.join("b", worker)

            async def stop():
                await worker.began.wait()
                scope.cancel()

            made.context.tasks.start_soon(leaves)
            await made.server.wait_for(["b"], 1)
            made.context.tasks.start_soon(stop)
            await made.play(sites=("a", "b"), quorum=1)
            return made.seen.records[0, "b"].status, list(made.server.sites)

    assert sim(main) == ("failed", ["a"])
    assert worker.cancelled == 1


@pytest.mark.parametrize(("until", "kept"), [("received", 0), ("committed", 1)])
def test_a_client_lets_go_of_its_update_at_the_receipt_it_was_told(sim, scheme, until, kept):
    """First received, then committed: after both the shelf is empty in any case."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            task = RoundTask("job", 0, 1, keep_until=until)
            async with made.cohort.round(task, MODEL) as updates:
                async for _ in updates:
                    await settle()
                    before = held(made, "a")
            await settle()
            return before, held(made, "a")

    assert sim(main) == (kept, 0)


def test_only_so_many_tasks_hold_a_model_as_the_gate_lets_in(sim, scheme):
    """The rest of a process's sites wait without one, and are served in turn."""
    inside, most = [0], [0]

    class Counts(Trains):
        async def run(self, task):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            result = await super().run(task)
            inside[0] -= 1
            return result

    async def main():
        gate = asyncio.Semaphore(2)
        async with federation({}, scheme=scheme) as made:
            for number in range(6):
                client = Client(made.context, f"s{number}", Counts(seconds=1), gate)
                made.context.tasks.start_soon(client.run, made.address)
            sites = tuple(f"s{number}" for number in range(6))
            await made.server.wait_for(sites, 6)
            updates, _ = await made.play(sites=sites)
            return len(updates)

    assert sim(main) == 6
    assert most == [2]


def test_a_long_failure_is_cut_and_names_the_site(sim, scheme):
    """Megabytes of a traceback never break the control channel."""
    worker = Trains(error=TrainingFailed("a", "x" * 100_000, "y" * 10_000_000))

    async def main():
        async with federation({"a": worker, "b": Trains()}, scheme=scheme) as made:
            await made.play(quorum=1)
            return made.seen.records[0, "a"]

    record = sim(main)
    assert (record.status, record.site) == ("failed", "a")
    assert 1000 <= len(record.reason) <= 20_000


def test_a_model_that_is_gone_is_a_failed_part_not_a_broken_site(sim, scheme):
    """The site gives this task up and works on the next."""

    async def main():
        async with federation({"a": Trains(2), "b": Trains(4)}, scheme=scheme) as made:
            task = RoundTask("job", 0, 2)
            with pytest.raises(QuorumNotReached) as caught:
                await without_model(made, task)
            _, model = await made.play(1)
            return caught.value, model

    async def without_model(made, task):
        async with made.cohort.round(task, MODEL) as updates:
            for offer in list(made.server.shelf._offers.values()):
                made.server.shelf.withdraw(offer)
            async for _ in updates:
                raise AssertionError

    error, model = sim(main)
    assert set(error.failures) <= {"a", "b"}
    assert any("offer_gone" in reason for reason in error.failures.values())
    assert values(model) == expected((2, 1), (4, 1))


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x00" * 100])
def test_an_offer_that_is_garbage_is_refused_and_the_session_lives(sim, scheme, header):
    """The reset says so; the next task is done."""

    async def main():
        async with federation({"a": Trains(1)}, scheme=scheme) as made:
            channel = made.server.sites["a"].open(TASK_TOPIC, header)
            with pytest.raises(ChannelReset) as caught:
                await channel.receive()
            _, model = await made.play()
            return caught.value.reset_code, values(model)

    assert sim(main) == (ResetCode.PROTOCOL, expected((1, 1)))


@pytest.mark.parametrize("opens", ["server", "site"])
def test_a_channel_of_another_topic_is_refused(sim, scheme, opens):
    """A site takes tasks only, the server nothing but pulls."""

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made:
            session = made.server.sites["a"]
            if opens == "site":
                link = await made.network.connect(made.address)
                session = Session(link, Side.CONNECTOR, made.context.endpoint("b", "client"))
                async with session:
                    return await refusal(session)
            return await refusal(session)

    async def refusal(session):
        with pytest.raises(ChannelReset) as caught:
            await session.open("gossip").receive()
        return caught.value.reset_code

    assert sim(main) == ResetCode.REFUSED


def test_a_server_that_goes_ends_its_clients(sim, scheme):
    """``run`` returns or raises a link error: nobody waits for tasks of a server that is gone."""

    async def main():
        ends = []
        async with federation({"a": Trains()}, scheme=scheme) as made:
            client = Client(made.context, "b", Trains())

            async def serve():
                try:
                    await client.run(made.address)
                except LinkLost as exc:
                    ends.append(exc)
                else:
                    ends.append(None)

            made.context.tasks.start_soon(serve)
            await made.server.wait_for(["b"], 1)
            await settle()
            made.server.sites["b"].leave(int(ResetCode.INTERNAL), "going down")
            await settle()
            return len(ends)

    assert sim(main) == 1
