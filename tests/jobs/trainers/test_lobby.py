"""Who may talk to a client: the processes that it has started, and nobody else."""

import asyncio
import os
import resource
import socket
import stat
from pathlib import Path

import anyio
import pytest

from flare_async.errors import ScriptStopped
from flare_async.jobs.trainers.coding import PREFIX, decode, encode
from flare_async.jobs.trainers.desk import ADDRESS, TOKEN, open_desk
from flare_async.jobs.trainers.lobby import Lobby
from flare_async.jobs.trainers.messages import (
    Closing,
    Hello,
    Refused,
)
from flare_async.limits import Limits

pytestmark = pytest.mark.asyncio
LIMITS = Limits(handshake_timeout=0.3)


class Guests:
    """Keeps the ranks that were let in."""

    def __init__(self):
        self.ranks = []

    async def meet(self, connection, rank):
        """Let somebody in."""
        self.ranks.append(rank)
        await connection.refuse("met")


async def said(lobby, data):
    """Return all that the lobby answers to these bytes."""
    reader, writer = await asyncio.open_unix_connection(lobby.address)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_token_leads_to_its_trainer_only():
    """A wrong one is told so; garbage, silence and other messages end the connection."""
    guests = Guests()
    async with anyio.create_task_group() as group:
        lobby = await Lobby(group, LIMITS).open()
        token = lobby.expect(guests.meet)
        met = await said(lobby, encode(Hello(token, 3)))
        unknown = await said(lobby, encode(Hello("guess", 0)))
        empty = [
            await said(lobby, encode(Closing())),
            await said(lobby, b"\x00\x00\x00\x02\xc1\xc1"),
            await said(lobby, b"\xff\xff\xff\xff"),
            await said(lobby, b"\x00"),
        ]
        lobby.forget(token)
        forgotten = await said(lobby, encode(Hello(token, 3)))
        group.cancel_scope.cancel()
    await lobby.close()
    assert guests.ranks == [3]
    assert decode(met[PREFIX:]) == Refused(0, "met")
    assert isinstance(decode(unknown[PREFIX:]), Refused)
    assert forgotten == unknown
    assert empty == [b""] * 4


async def test_the_folder_is_for_this_user_only_and_goes_with_the_lobby():
    """Its path is short enough for a socket's name."""
    async with anyio.create_task_group() as group:
        lobby = await Lobby(group, LIMITS).open()
        folder = Path(lobby.address).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(os.fsencode(lobby.address)) < 108
        group.cancel_scope.cancel()
    await lobby.close()
    assert not folder.exists()


async def test_who_knocks_while_no_descriptor_is_left_is_let_in_later():
    """F36: the lobby outlives it."""
    guests = Guests()
    async with anyio.create_task_group() as group:
        lobby = await Lobby(group, LIMITS).open()
        token = lobby.expect(guests.meet)
        with socket.socket(socket.AF_UNIX) as script:
            script.setblocking(False)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            try:
                script.connect(lobby.address)
                script.send(encode(Hello(token, 3)))
                for _ in range(20):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            with anyio.fail_after(5):
                await anyio.wait_readable(script)
        group.cancel_scope.cancel()
    await lobby.close()
    assert guests.ranks == [3]


async def test_a_script_without_its_client_is_told_so():
    """Nobody listens, or whoever listens does not know it."""
    async with anyio.create_task_group() as group:
        lobby = await Lobby(group, LIMITS).open()
        environ = {ADDRESS: lobby.address, TOKEN: "old"}
        with pytest.raises(ScriptStopped, match="does not know this process"):
            await asyncio.to_thread(open_desk, environ, 0)
        group.cancel_scope.cancel()
    await lobby.close()
    with pytest.raises(ScriptStopped, match="its client is gone"):
        await asyncio.to_thread(open_desk, environ, 0)
