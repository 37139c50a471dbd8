"""What is said to a peer without a link, and who may end a session whose link is young."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import pytest

from flare_async.errors import LinkLost, LocalProtocolError, SessionGone
from flare_async.limits import KIB
from flare_async.testing import BitFlip
from flare_async.wire.frames import Goodbye, Hello, ResetCode
from tests.net.test_resume import ADDRESS, LIMITS, ends


def test_a_goodbye_said_without_a_link_is_repeated_when_the_peer_comes_back(sim):
    """The site learns that the server is done, and does not begin again with a new session."""

    async def main():
        async with ends() as made:
            await asyncio.sleep(0.5)
            made.cut()
            while made.far.attached:
                await asyncio.sleep(0.001)
            made.far.leave(0, "done")
            with pytest.raises(StopAsyncIteration):
                await made.near.__anext__()
            return made.near.ended, made.near.error

    assert sim(main) == (True, None)


def test_a_goodbye_is_repeated_for_session_grace_and_to_its_peer_only(sim):
    """Later, or under another name, the session is simply gone."""

    async def main():
        async with ends() as made:
            farewells = made.reception._farewells
            farewells.keep(b"s" * 16, "near", (0, "done"))
            told = [farewells.of(b"s" * 16, peer) for peer in ("near", "other")]
            await asyncio.sleep(LIMITS.session_grace)
            return [*told, farewells.of(b"s" * 16, "near")]

    gone = (int(ResetCode.GONE), "no such session")
    assert sim(main) == [(0, "done"), gone, gone]


def test_an_answer_from_somebody_else_does_not_end_the_session(sim):
    """A hello of another session, with a goodbye behind it, is one more link that was lost."""

    async def main():
        async with ends() as made:
            mine, theirs = made.near.open("bulk"), await anext(made.far)
            real, answers = made.near._links._lifeline._dial, 3

            async def dial():
                nonlocal answers
                link = await real()
                if answers:
                    answers -= 1
                    stranger = Hello(1, "far", bytes(16), 0, b"", "test", 8 * KIB, 256 * KIB)
                    link.peer.send_soon([stranger, Goodbye(6, "bad_head")])
                return link

            made.near._links._lifeline._dial = dial
            made.cut()
            mine.send_soon(b"after all")
            return await theirs.receive(), answers, made.near.ended

    assert sim(main) == (b"after all", 0, False)


def test_sessions_without_a_link_make_room_for_others(sim):
    """Those with a link are not touched, and with nothing but those a newcomer is refused."""
    limits = replace(LIMITS, sessions=1)

    async def main():
        async with ends(limits) as made:
            link = await made.network.connect(ADDRESS)
            link.send_soon([made.endpoint.hello(256 * KIB, b"x" * 16)])
            await asyncio.sleep(0.5)
            refused, kept = made.accepted[-1], made.far.ended
            link.abort()
            made.near._links._lifeline._dial = anyio.sleep_forever  # nobody comes back
            made.cut()
            await asyncio.sleep(0.001)
            link = await made.network.connect(ADDRESS)
            link.send_soon([made.endpoint.hello(256 * KIB, b"y" * 16)])
            while len(made.reception._sessions) != 1 or made.near.id in made.reception._sessions:
                await asyncio.sleep(0.01)
            return str(refused), kept, made.far.error

    refused, kept, error = sim(main)
    assert (refused, kept) == ("this side: 1 sessions are open", False)
    assert isinstance(error, LinkLost)


def test_a_second_sender_on_a_channel_is_told_so(sim):
    """It would otherwise wait for ever."""

    async def main():
        async with ends() as made:
            mine = made.near.open("bulk")
            await anext(made.far)
            first = asyncio.gather(mine.send(bytes(400 * KIB)))
            await asyncio.sleep(0.1)
            with pytest.raises(LocalProtocolError, match="already has a sender"):
                await mine.send(bytes(400 * KIB))
            mine.reset()
            return await asyncio.gather(first, return_exceptions=True)

    assert sim(main)


def test_bytes_that_have_landed_are_never_written_again(sim):
    """A frame at an old offset gets no memory."""

    async def main():
        async with ends() as made:
            mine = made.near.open("pull")
            mine.lease(memoryview(bytearray(KIB)))
            theirs = await anext(made.far)
            theirs.send_soon(bytes(100))
            while mine.statistics().received < 100:
                await asyncio.sleep(0.01)
            return [mine.destination(at, 10) is None for at in (0, 50, 99, 100, 200)]

    assert sim(main) == [True, True, True, False, False]


def test_the_path_is_measured_anew_with_each_link(sim):
    """A session that moves to a longer path may have more bytes under way."""

    async def main():
        async with ends(latency=(0.5, 0.5)) as made:
            await asyncio.sleep(5)
            made.near.machine.pace(1)
            made.cut()
            while not (made.near.attached and made.near.epoch == 1):
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            return made.near.machine._table.pace.share

    assert sim(main) == LIMITS.link_bytes


def test_gone_is_still_gone(sim):
    """Without kept words the session is unknown."""

    async def main():
        async with ends() as made:
            made.reception._sessions.clear()
            made.cut()
            with pytest.raises(SessionGone):
                await anext(made.near)

    sim(main)


@pytest.mark.parametrize("at", range(150, 250, 9))
def test_a_control_frame_that_was_damaged_costs_a_link_and_not_the_session(sim, at):
    """A bit flips in what answers bulk: the checksum finds it, and the next link goes on."""

    async def main():
        async with ends(bandwidth=4e6, faults=[BitFlip(at, direction="down")]) as made:
            mine, theirs = made.near.open("bulk"), await anext(made.far)
            mine.send_soon(bytes(512 * KIB))
            mine.end()
            got = 0
            async for chunk in theirs:
                got += len(chunk)
            return got, made.near.epoch, made.near.ended

    assert sim(main) == (512 * KIB, 1, False)
