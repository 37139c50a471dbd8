"""Our WebSocket against aiohttp's own, at either end: two readings of RFC 6455 that must agree."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from flare_async.limits import Limits
from flare_async.net.registry import Transports
from flare_async.testing.link_checks import HELLO, sample
from flare_async.testing.recorder import Recorder
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.frames import Data, Goodbye

SAID = (HELLO, Data(1, 0, sample(100)), Data(1, 100, sample(60_000)), Goodbye(0, "done"))
LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Go straight to this machine, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


async def talk(websocket):
    """Send what is to be said, one message a frame; return what the other end says, and its end."""
    for frame in SAID:
        await websocket.send_bytes(b"".join(encode(frame)))
    decoder, heard = Decoder(limits=Limits()), []
    async for message in websocket:
        heard += decoder.feed(message.data)
    return heard, websocket.close_code


async def listen_and_answer(link):
    """Hear everything, say the same, and close."""
    recorder = Recorder()
    link.start(recorder)
    await recorder.until_frames(len(SAID))
    link.send_soon(SAID)
    await link.aclose()
    return recorder.frames


def test_aiohttp_as_a_client_is_understood():
    """Frames both ways, and an orderly close with code 1000."""

    async def main():
        listener = await Transports(Limits()).listen("ws://127.0.0.1:0")
        url = listener.address.replace("ws:", "http:")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=LIMIT) as websocket,
        ):
            link = await anext(listener)
            found = await asyncio.gather(talk(websocket), listen_and_answer(link))
        await listener.aclose()
        return found

    assert asyncio.run(main()) == [(list(SAID), 1000), list(SAID)]


def test_aiohttp_as_a_server_is_understood():
    """The same from the other side; its messages arrive as they were cut."""
    heard = []

    async def serve(request):
        websocket = web.WebSocketResponse(max_msg_size=LIMIT)
        await websocket.prepare(request)
        heard.append(await talk(websocket))
        return websocket

    async def main():
        runner = web.ServerRunner(web.Server(serve))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        link = await Transports(Limits()).connect(f"ws://127.0.0.1:{port}")
        try:
            return await listen_and_answer(link)
        finally:
            await runner.cleanup()

    assert asyncio.run(main()) == list(SAID)
    assert heard == [(list(SAID), 1000)]
