"""A session outlives its links: channels continue, nothing comes twice, and waits stay bounded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import pytest

from flare_async.errors import HandshakeFailed, LinkLost, SessionGone
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.reception import Reception
from flare_async.net.redial import Redial
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.testing.network import SimNetwork
from flare_async.testing.recorder import Recorder
from flare_async.wire.frames import Goodbye, Hello
from flare_async.wire.session import OpenOptions, Side
from flare_async.wire.windows import CreditBudget
from tests.net.peers import now

ADDRESS = "sim://there"
LIMITS = Limits(stall_timeout=5.0, retry_cap=8.0, session_grace=40.0)


@dataclass
class Ends:
    """Both ends of a session that may lose its links, and all that was made for it."""

    network: SimNetwork
    reception: Reception
    endpoint: Endpoint
    near: Session
    far: Session
    accepted: list

    def cut(self):
        """Lose the link that is in use."""
        self.network.links[-1].cut()


def make_endpoint(name, tasks, watchdog, limits=LIMITS):
    """Return what the sessions of one role share."""
    return Endpoint(
        name=name,
        role="test",
        clock=LoopClock(),
        random=SeededRandom(len(name)),
        watchdog=watchdog,
        limits=limits,
        tasks=tasks,
        budget=CreditBudget(limits.process_bytes),
    )


@asynccontextmanager
async def ends(limits=LIMITS, **options):
    """Yield a session whose connecting side dials again and whose accepting side waits."""
    network = SimNetwork(LoopClock(), SeededRandom(3), limits=limits, **options)
    listener = await network.listen(ADDRESS)
    with Watchdog(LoopClock()) as watchdog:
        async with anyio.create_task_group() as tasks:
            far_end = make_endpoint("far", tasks, watchdog, limits)
            near_end = make_endpoint("near", tasks, watchdog, limits)
            reception, accepted = Reception(far_end), []

            async def take(link):
                try:
                    session = await reception.receive(link)
                except HandshakeFailed as exc:
                    accepted.append(exc)
                    return
                accepted.append(session)
                if session is not None:
                    await session.__aenter__()

            async def accept():
                async for link in listener:
                    tasks.start_soon(take, link)

            tasks.start_soon(accept)
            link = await network.connect(ADDRESS)
            redial = Redial(lambda: network.connect(ADDRESS), near_end)
            near = Session(link, Side.CONNECTOR, near_end, lifeline=redial)
            async with near:
                while not accepted:
                    await asyncio.sleep(0.01)
                yield Ends(network, reception, near_end, near, accepted[0], accepted)
            await listener.aclose()
            tasks.cancel_scope.cancel()


async def receive_all(channel):
    """Return what a channel brings until its end."""
    return b"".join([bytes(chunk) async for chunk in channel])


def test_channels_continue_where_they_were(sim):
    """Ten cuts in the middle of a stream lose and repeat nothing, and no channel is reset."""
    data = bytes(range(256)) * (8 * KIB)

    async def main():
        async with ends(bandwidth=4e6) as made:
            mine = made.near.open("bulk")
            theirs = await anext(made.far)
            mine.send_soon(data)
            mine.end(b"trailer")
            async with anyio.create_task_group() as tasks:

                async def cuts():
                    for epoch in range(1, 11):
                        await asyncio.sleep(0.05)
                        made.cut()
                        while not (made.near.attached and made.near.epoch == epoch):
                            await asyncio.sleep(0.01)

                tasks.start_soon(cuts)
                got = await receive_all(theirs)
            return got == data, theirs.trailer, made.near.epoch, made.far.epoch

    assert sim(main) == (True, b"trailer", 10, 10)


def test_what_is_opened_and_sent_without_a_link_arrives_on_the_next_one(sim):
    """Opens, messages, ends and resets wait in the session."""

    async def main():
        async with ends() as made:
            dropped = made.near.open("dropped")
            await anext(made.far)
            made.cut()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not made.near.attached
            dropped.reset()
            never = made.near.open("never seen")
            never.reset()
            late = made.near.open("late", b"header", OpenOptions(urgent=True))
            late.send_soon(b"word")
            late.end()
            theirs = await anext(made.far)
            got = await receive_all(theirs)
            await asyncio.sleep(1)
            return theirs.topic, theirs.header, got, len(made.far.channels)

    assert sim(main) == ("late", b"header", b"word", 1)


def test_a_wait_does_not_stall_while_there_is_no_link(sim):
    """A cut of three stall timeouts is no stall; patience begins anew with the next link."""

    async def main():
        async with ends(replace(LIMITS, retry_cap=8.0)) as made:
            mine = made.near.open("pull", options=OpenOptions(end=True))
            theirs = await anext(made.far)
            waiting = asyncio.gather(mine.receive_moving())
            await asyncio.sleep(1)
            listener = made.network._listeners.pop(ADDRESS)
            made.cut()
            await asyncio.sleep(3 * LIMITS.stall_timeout)
            made.network._listeners[ADDRESS] = listener
            while not made.near.attached:
                await asyncio.sleep(0.1)
            theirs.send_soon(b"x")
            return (await waiting)[0], mine.is_open

    assert sim(main) == (b"x", True)


def test_without_a_new_link_the_session_ends_after_its_grace(sim):
    """Both sides end within ``session_grace``, and the channels learn why."""

    async def main():
        async with ends() as made:
            mine = made.near.open("bulk")
            await anext(made.far)
            await made.network._listeners[ADDRESS].aclose()
            made.cut()
            began = now()
            with pytest.raises(LinkLost, match="no new link within 40 s"):
                await mine.receive()
            return now() - began, made.far.ended, str(made.far.error)

    waited, ended, error = sim(main)
    assert waited == pytest.approx(LIMITS.session_grace, abs=0.1)
    assert ended
    assert "no new link within 40 s" in error


def test_leaving_ends_the_dialling_at_once(sim):
    """No retry frame after a job's end: a session that is left dials no more."""

    async def main():
        async with ends() as made:
            listener = made.network._listeners.pop(ADDRESS)
            made.cut()
            await asyncio.sleep(20)
            made.network._listeners[ADDRESS] = listener
            before = len(made.accepted)
            began = now()
            await made.near.__aexit__(None, None, None)
            left = now() - began
            await asyncio.sleep(60)
            return left, len(made.accepted) - before, len(asyncio.all_tasks())

    left, links, tasks = sim(main)
    assert (left, links) == (0, 0)
    assert tasks <= 3


def test_a_newer_link_fences_the_older_one(sim):
    """Half-open: the connector dials again while the acceptor still believes in the old link."""

    async def main():
        async with ends() as made:
            mine = made.near.open("bulk")
            theirs = await anext(made.far)
            old = made.far.link
            made.near._links.attachment.lose(LinkLost("far", "the address changed"))
            mine.send_soon(b"after")
            got = await theirs.receive()
            await asyncio.sleep(1)
            return got, made.far.link is old, old.closed, made.far.epoch

    assert sim(main) == (b"after", False, True, 1)


@pytest.mark.parametrize(
    "change",
    [{"epoch": 0}, {"peer": "other"}, {"role": "server"}, {"session": b"?" * 16}],
    ids=["epoch", "name", "role", "session"],
)
def test_a_link_that_does_not_belong_to_the_session_is_refused(sim, change):
    """Replayed epochs, other names and guessed ids get GONE; the session does not notice."""

    async def main():
        async with ends() as made:
            told = Recorder()
            link = await made.network.connect(ADDRESS)
            link.start(told)
            hello = replace(made.endpoint.hello(MIB, made.near.id, 1), **change)
            link.send_soon([hello])
            await told.until_lost()
            return told.frames, made.accepted[-1], made.near.attached, made.far.attached

    frames, error, *attached = sim(main)
    assert isinstance(error, HandshakeFailed)
    assert [type(frame) for frame in frames] == [Hello, Goodbye]
    assert (frames[-1].message, attached) == ("no such session", [True, True])


def test_a_peer_that_does_not_know_the_session_ends_it(sim):
    """A server that restarted says so; its client learns ``SessionGone`` and dials no more."""

    async def main():
        async with ends() as made:
            made.reception._sessions.clear()
            made.cut()
            with pytest.raises(SessionGone):
                await anext(made.near)
            return made.near.ended

    assert sim(main) is True


def test_b03_silent_links_cannot_keep_others_out(sim):
    """With more than ``handshakes`` silent links the longest silent one goes."""
    limits = replace(LIMITS, handshakes=8)

    async def main():
        async with ends(limits) as made:
            recorders = []
            for _ in range(20):
                link = await made.network.connect(ADDRESS)
                recorders.append(Recorder())
                link.start(recorders[-1])
            await asyncio.sleep(0.5)
            gone = [bool(told.lost_with) for told in recorders]
            mine = made.near.open("bulk")
            theirs = await anext(made.far)
            mine.send_soon(b"still here")
            return gone, await theirs.receive()

    gone, got = sim(main)
    assert gone == [True] * 12 + [False] * 8
    assert got == b"still here"


def test_f10_pauses_grow_while_nothing_moves_and_are_capped(sim):
    """A peer that accepts and drops is asked ever more seldom: a bounded number of tries."""

    async def main():
        async with ends(replace(LIMITS, handshake_timeout=1.0)) as made:
            tries = []

            async def dial():
                tries.append(now())
                link = await made.network.connect(ADDRESS)
                link.abort()
                return link

            made.near._links._lifeline._dial = dial
            made.cut()
            with pytest.raises(LinkLost):
                await anext(made.near)
            return tries

    tries = sim(main)
    assert 4 <= len(tries) <= 40
