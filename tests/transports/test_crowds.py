"""A crowd that says nothing at a port: the longest silent goes, and who speaks gets in."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from flare_async.limits import Limits
from flare_async.net.registry import Transports
from tests.transports.certificates import Authority
from tests.transports.loops import LOOPS, run_on

MOST = 8
CROWDS = [
    ("tls", b""),
    ("tls", b"\x16\x03\x01"),
    ("ws", b""),
    ("ws", b"GET / HT"),
    ("wss", b""),
    ("wss", b"\x16\x03\x01"),
]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Go straight to this machine, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return the authority that is believed."""
    return Authority(tmp_path_factory.mktemp("authority"))


async def strangers(address, count, words):
    """Open connections that say little, one after the other; return both ends of each."""
    port = int(address.split("/")[2].rpartition(":")[2])
    opened = []
    for _ in range(count):
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        opened[-1][1].write(words)
    return opened


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("scheme", "words"), CROWDS)
def test_a_silent_crowd_keeps_nobody_out(authority, scheme, loop, words):
    """Three times as many as there are places: the first are cut off long before their deadline."""

    async def main():
        limits = Limits(handshakes=MOST, handshake_timeout=30)
        listener = await Transports(limits, authority.server()).listen(f"{scheme}://127.0.0.1:0")
        crowd = await strangers(listener.address, 3 * MOST, words)
        async with asyncio.timeout(10):
            link = await Transports(limits, authority.client()).connect(listener.address)
            accepted = await anext(listener)
            for reader, _ in crowd[:MOST]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        for end in (link, accepted, *(writer.transport for _, writer in crowd)):
            end.abort()
        await listener.aclose()

    run_on(LOOPS[loop], main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_links_take_no_place_among_the_silent(authority, scheme, loop):
    """More links than places: all of them stay, and new ones come."""

    async def main():
        limits = Limits(handshakes=2)
        listener = await Transports(limits, authority.server()).listen(f"{scheme}://127.0.0.1:0")
        network = Transports(limits, authority.client())
        ends = []
        for _ in range(5):
            ends += [await network.connect(listener.address), await anext(listener)]
        lost = [end.lost for end in ends]
        for end in ends:
            end.abort()
        await listener.aclose()
        assert lost == [False] * 10

    run_on(LOOPS[loop], main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_listener_that_closes_leaves_no_stranger(authority, loop):
    """Neither who has said nothing nor who is in the middle of TLS's first words."""

    async def main():
        listener = await Transports(Limits(), authority.server()).listen("wss://127.0.0.1:0")
        crowd = [
            *await strangers(listener.address, 2, b""),
            *await strangers(listener.address, 2, b"\x16\x03\x01\x01"),
        ]
        while len(listener._strangers) < len(crowd):
            await asyncio.sleep(0)
        await listener.aclose()
        for reader, writer in crowd:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert (len(listener._strangers), len(listener._http.connections)) == (0, 0)

    run_on(LOOPS[loop], main)
