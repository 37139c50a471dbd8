"""TLS links: identities, endings, and what a connection may hold. The rest is the kit's."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from functools import partial

import pytest

from flare_async.errors import ConnectFailed, HandshakeFailed, LinkLost
from flare_async.limits import MIB, Limits
from flare_async.net.registry import Transports
from flare_async.testing.conformance import link_pair
from flare_async.testing.link_checks import HELLO, bulk, sample
from flare_async.testing.recorder import Recorder
from flare_async.transports.tls_engine import PIECE_BYTES
from tests.transports.certificates import Authority
from tests.transports.loops import LOOPS, run_on

BOTH = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return an authority for all tests of this file."""
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def links(authority, address="tls://127.0.0.1:0", mutual=True):
    """Yield the connecting end of a site and the accepting end of a server."""
    there = Transports(Limits(), authority.server(mutual=mutual))
    here = Transports(Limits(), authority.client(mutual=mutual))
    listener = await there.listen(address)
    try:
        link = await here.connect(listener.address)
        accepted = await anext(listener)
        yield link, accepted
        link.abort()
        accepted.abort()
    finally:
        await listener.aclose()


def started(*ends):
    """Start links and return what they tell."""
    recorders = [Recorder() for _ in ends]
    for link, recorder in zip(ends, recorders, strict=True):
        link.start(recorder)
    return recorders


@BOTH
@pytest.mark.parametrize("address", ["tls://127.0.0.1:0", "tls://[::1]:0", "tls://localhost:0"])
def test_both_ends_know_the_name_in_the_others_certificate(authority, address, loop):
    """By either family, and by name."""

    async def main():
        async with links(authority, address) as (here, there):
            assert (here.identity, there.identity) == ("localhost", "site-1")
            assert there.address.startswith("tls://")

    run_on(LOOPS[loop], main)


def test_a_uri_or_a_common_name_can_name_a_site(authority):
    """The one rule of ``peer_name`` holds on a connection."""

    async def main():
        for credentials, name in (
            (authority.with_uri("flare-async:site-9"), "site-9"),
            (authority.issue(common_name="site-3"), "site-3"),
        ):
            network = Transports(Limits(), credentials)
            listener = await Transports(Limits(), authority.server()).listen("tls://127.0.0.1:0")
            link = await network.connect(listener.address)
            accepted = await anext(listener)
            assert accepted.identity == name
            for end in (link, accepted, listener):
                await end.aclose()

    asyncio.run(main())


@BOTH
def test_without_mutual_only_the_listener_is_known(authority, loop):
    """A site then shows no certificate and has no identity."""

    async def main():
        async with links(authority, mutual=False) as (here, there):
            mine, theirs = started(here, there)
            here.send_soon([HELLO])
            there.send_soon([HELLO])
            await mine.until_frames(1)
            await theirs.until_frames(1)
            assert (here.identity, there.identity) == ("localhost", None)
            assert mine.frames == theirs.frames == [HELLO]

    run_on(LOOPS[loop], main)


@BOTH
def test_ends_that_close_at_once_both_end_in_order(authority, loop):
    """Neither waits for the other, and nothing that was sent is lost."""
    data = sample(2 * MIB)

    async def main():
        async with links(authority) as (here, there):
            recorders = started(here, there)
            for link in (here, there):
                link.send_soon([HELLO, *bulk(link, data)])
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(here.aclose())
                group.create_task(there.aclose())
            assert [recorder.lost_with for recorder in recorders] == [[None], [None]]
            assert all(recorder.payload == data for recorder in recorders)

    run_on(LOOPS[loop], main)


@BOTH
def test_one_end_closes_while_the_other_has_never_started(authority, loop):
    """Closing a link that nobody listens on is an orderly end to the peer."""

    async def main():
        async with links(authority) as (here, there):
            (mine,) = started(here)
            await there.aclose()
            await mine.until_lost()
            assert mine.lost_with == [None]

    run_on(LOOPS[loop], main)


@BOTH
def test_an_end_without_tls_s_own_end_is_a_loss(authority, loop):
    """Somebody in between can cut a connection, but not so that it looks complete."""

    async def main():
        async with links(authority) as (here, there):
            (theirs,) = started(there)
            here.start(Recorder())
            here.send_soon([HELLO])
            await theirs.until_frames(1)
            here._transport.write_eof()
            await theirs.until_lost()
            assert isinstance(theirs.lost_with[0], LinkLost)
            assert "cut off" in str(theirs.lost_with[0])

    run_on(LOOPS[loop], main)


@BOTH
def test_a_damaged_record_is_a_loss_on_both_sides(authority, loop):
    """The one who notices says so in TLS's own words, the other repeats them."""

    async def main():
        async with links(authority) as (here, there):
            mine, theirs = started(here, there)
            here._transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await theirs.until_lost()
            await mine.until_lost()
            assert "TLS: decryption failed or bad record mac" in str(theirs.lost_with[0])
            assert "TLS: it refused us: bad record mac" in str(mine.lost_with[0])

    run_on(LOOPS[loop], main)


@BOTH
def test_a_peer_that_reads_nothing_costs_a_piece_and_not_a_frame(authority, loop):
    """What the system does not take stays a reference; ciphertext is bounded by pieces."""

    async def main():
        async with links(authority) as (here, there):
            (_,) = started(here)
            here.send_soon([HELLO])
            while here.writable:
                here.send_soon(bulk(here, bytes(8 * MIB)))
            encrypted = here._transport.get_write_buffer_size()
            assert encrypted < 3 * PIECE_BYTES, f"{encrypted} bytes of ciphertext wait"
            assert here.pending == here._engine.queued + encrypted
            here.abort()
            assert (here.pending, here._engine.queued) == (0, 0)
            there.abort()

    run_on(LOOPS[loop], main)


def test_links_share_the_memory_that_they_read_into(authority):
    """A thousand links of one transport have one scratch; before the start it is a small part."""

    async def main():
        network = Transports(Limits(), authority.server())
        async with (
            link_pair(network, "tls://127.0.0.1:0") as first,
            link_pair(network, "tls://127.0.0.1:0") as second,
        ):
            ends = [*first, *second]
            assert {len(link.get_buffer(-1)) for link in ends} == {4096}
            started(*ends)
            assert len({id(link.get_buffer(-1).obj) for link in ends}) == 1
            assert all(link._engine.undecrypted == 0 for link in ends)

    asyncio.run(main())


def test_what_comes_before_the_start_is_bounded(authority):
    """A peer that does not wait is not read: one small read is kept for it."""

    async def main():
        async with links(authority) as (here, there):
            here.send_soon([HELLO])
            while here.writable:
                here.send_soon(bulk(here, bytes(MIB)))
            while there._transport.is_reading():
                await asyncio.sleep(0)
            assert 0 < there._engine.undecrypted <= 4096

    asyncio.run(main())


@BOTH
def test_a_cancelled_connect_leaves_nothing(authority, loop):
    """The socket is closed, whatever the handshake had reached."""

    async def main():
        came = asyncio.Event()
        server = await asyncio.start_server(partial(gone, came), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        network = Transports(Limits(), authority.client())
        with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s"):
            await Transports(Limits(handshake_timeout=0.2), authority.client()).connect(
                f"tls://127.0.0.1:{port}"
            )
        came.clear()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(network.connect(f"tls://127.0.0.1:{port}"))
            await came.wait()
            task.cancel()
        assert task.cancelled()
        server.close()
        await server.wait_closed()

    async def gone(came, reader, writer):
        assert (await reader.read(1)) == b"\x16"
        came.set()
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1000):
                pass
        writer.close()

    run_on(LOOPS[loop], main)


@BOTH
def test_a_connect_that_is_cancelled_at_any_turn_leaves_nothing(authority, loop):
    """Whatever the handshake had reached, on both sides; the listener serves the next."""

    async def main():
        network = Transports(Limits(), authority.server())
        listener = await network.listen("tls://127.0.0.1:0")
        for turns in range(30):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(network.connect(listener.address))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
            if not task.cancelled():
                task.result().abort()
        link = await network.connect(listener.address)
        link.abort()
        await listener.aclose()
        assert len(listener._handshakes) == 0

    run_on(LOOPS[loop], main)


@BOTH
def test_b02_a_silent_connection_ends_at_the_deadline(authority, loop):
    """Whoever says nothing is closed, and the listener's log learns who it was."""

    async def main():
        limits = Limits(handshake_timeout=0.1)
        listener = await Transports(limits, authority.server()).listen("tls://127.0.0.1:0")
        port = int(listener.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        (recorder,) = started(await anext(listener))
        assert isinstance(recorder.lost_with[0], HandshakeFailed)
        assert "no TLS handshake within 0.1 s" in str(recorder.lost_with[0])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await listener.aclose()

    run_on(LOOPS[loop], main)


@BOTH
def test_a_hundred_handshakes_at_once_all_succeed(authority, loop):
    """They take turns, and none is forgotten."""

    async def main():
        listener = await Transports(Limits(), authority.server()).listen("tls://127.0.0.1:0")
        network = Transports(Limits(handshake_timeout=15), authority.client())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(network.connect(listener.address)) for _ in range(100)]
        accepted = [await anext(listener) for _ in range(100)]
        assert {link.identity for link in accepted} == {"site-1"}
        for link in [*accepted, *(task.result() for task in tasks)]:
            link.abort()
        await listener.aclose()

    run_on(LOOPS[loop], main)
