"""WebSocket links: conformance on both loops, addresses, and what strangers meet at the port."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from flare_async.testing.conformance import CHECKS, check_name, link_pair, run_check
from flare_async.testing.link_checks import HELLO
from flare_async.testing.recorder import Recorder
from tests.transports.certificates import Authority

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def run_on(loop_factory, main):
    """Run a coroutine; fail when it leaves a task or an unhandled exception."""
    unhandled = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        runner.run(main())
        left = asyncio.all_tasks(loop)
    assert (left, unhandled) == (set(), [])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Go straight to this machine, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    """Return credentials of a server that a connecting side of this machine accepts."""
    return Authority(tmp_path_factory.mktemp("authority")).server()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("check", CHECKS, ids=check_name)
def test_a_websocket_conforms(scheme, loop, check, credentials):
    """Each check holds with and without TLS, on each loop."""

    async def main():
        network = Transports(Limits(), credentials)
        await run_check(check, lambda: link_pair(network, f"{scheme}://127.0.0.1:0"))

    run_on(LOOPS[loop], main)


async def said(address, request):
    """Return all that the port answers to raw bytes, until it closes."""
    host, port = address.split("/")[2].rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return (await reader.read()).decode("latin-1")
    finally:
        writer.close()
        await writer.wait_closed()


STRANGERS = {
    "a browser": (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200),
    "somebody who posts": (b"POST /flare HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 405),
    "an old client": (b"GET /flare HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n", 400),
    "noise": (bytes(range(128, 256)) + b"\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_told_what_this_is(name):
    """B01: one short text, and the connection is closed."""
    request, status = STRANGERS[name]

    async def main():
        listener = await Transports(Limits()).listen("ws://127.0.0.1:0")
        try:
            return await said(listener.address, request)
        finally:
            await listener.aclose()

    answer = asyncio.run(main())
    assert answer.startswith((f"HTTP/1.1 {status} ", f"HTTP/1.0 {status} "))
    assert "This is a flare_async port" in answer
    assert len(answer) < 500


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\nHost"])
def test_who_does_not_finish_a_request_is_cut_off(words):
    """B02: at ``handshake_timeout``, without an answer."""

    async def main():
        listener = await Transports(Limits(handshake_timeout=0.2)).listen("ws://127.0.0.1:0")
        try:
            async with asyncio.timeout(5):
                return await said(listener.address, words)
        finally:
            await listener.aclose()

    assert asyncio.run(main()) == ""


async def failure(address, **options):
    """Return what connecting fails with."""
    with pytest.raises(ConnectFailed) as caught:
        await Transports(Limits(handshake_timeout=2), **options).connect(address)
    return str(caught.value)


def test_a_wrong_path_is_told_as_such():
    """The status and what it means."""

    async def main():
        listener = await Transports(Limits()).listen("ws://127.0.0.1:0/here")
        try:
            return await failure(listener.address.replace("here", "there"))
        finally:
            await listener.aclose()

    text = asyncio.run(main())
    assert "404 Not Found; no flare_async server under this path" in text


def test_nobody_there_and_a_port_that_is_taken_are_told():
    """With the system's own words."""

    async def main():
        network = Transports(Limits())
        listener = await network.listen("ws://127.0.0.1:0")
        with pytest.raises(ConnectFailed, match="choose another port"):
            await network.listen(listener.address)
        await listener.aclose()
        return await failure(listener.address)

    assert "refused" in asyncio.run(main()).lower()


OTHERS = {
    "another protocol": (b"220 mail.example.org ready\r\n", "does not speak HTTP"),
    "nothing": (b"", "it closed the connection at once"),
    "a redirect": (
        b"HTTP/1.1 301 Moved\r\nLocation: https://there/\r\n\r\n",
        "the answer is 301 Moved; it moved to 'https://there/'",
    ),
    "a page": (b"HTTP/1.1 200 OK\r\n\r\n<html>", "200 OK; no flare_async server is there"),
    "somebody else's answer": (
        b"HTTP/1.1 101 Ok\r\nSec-WebSocket-Accept: x\r\n\r\n",
        "the answer is to another request",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_answer_that_is_not_ours_is_told(name):
    """With what it is, and where that helps with what to do."""
    words, problem = OTHERS[name]

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            return await failure(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert problem in asyncio.run(main())


def test_a_server_that_never_answers_is_given_up():
    """After ``handshake_timeout``, which the message names; nothing is left."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"ws://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s"):
                await Transports(Limits(handshake_timeout=0.2)).connect(address)

    run_on(LOOPS["asyncio"], main)


@pytest.mark.parametrize("loop", LOOPS)
def test_certificates_name_both_ends(loop, tmp_path):
    """``identity`` comes from the connection, on both sides."""
    authority = Authority(tmp_path)

    async def main():
        listening = Transports(Limits(), authority.server())
        listener = await listening.listen("wss://127.0.0.1:0")
        here = await Transports(Limits(), authority.client("site-7")).connect(listener.address)
        there = await anext(listener)
        try:
            assert (here.identity, there.identity) == ("localhost", "site-7")
        finally:
            here.abort()
            there.abort()
            await listener.aclose()

    run_on(LOOPS[loop], main)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_is_not_believed_does_not_connect(loop, tmp_path):
    """Neither a server of another authority nor a client without a certificate."""
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")

    async def main():
        listener = await Transports(Limits(), ours.server()).listen("wss://127.0.0.1:0")
        stranger = others.client("site-7")
        silent = ours.client("site-7", mutual=False)
        try:
            return [await failure(listener.address, credentials=one) for one in (stranger, silent)]
        finally:
            await listener.aclose()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        distrust, silence = runner.run(main())
    assert "TLS:" in distrust
    assert "a server that is shown no certificate" in silence


def test_a_connect_that_is_cancelled_leaves_nothing():
    """Neither a socket nor a task, at whatever point it is cancelled."""

    async def main():
        network = Transports(Limits())
        listener = await network.listen("ws://127.0.0.1:0")
        for turns in range(12):
            task = asyncio.get_running_loop().create_task(network.connect(listener.address))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            for link in await asyncio.gather(task, return_exceptions=True):
                assert isinstance(link, asyncio.CancelledError) or link.abort() is None
        await listener.aclose()

    run_on(LOOPS["asyncio"], main)


def test_links_outlive_their_listener():
    """What is connected stays; what waits to be accepted is refused."""

    async def main():
        network = Transports(Limits())
        listener = await network.listen("ws://127.0.0.1:0")
        here = await network.connect(listener.address)
        there = await anext(listener)
        await listener.aclose()
        mine, theirs = Recorder(), Recorder()
        here.start(mine)
        there.start(theirs)
        here.send_soon([HELLO])
        await theirs.until_frames(1)
        there.send_soon([HELLO])
        await mine.until_frames(1)
        await here.aclose()
        await theirs.until_lost()
        return mine.frames, theirs.frames, theirs.lost_with

    assert asyncio.run(main()) == ([HELLO], [HELLO], [None])
