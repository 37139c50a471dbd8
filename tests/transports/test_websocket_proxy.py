"""WebSockets through an HTTP proxy that opens tunnels."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from tests.transports.certificates import Authority
from tests.transports.connect_proxy import connect_proxy
from tests.transports.websocket_federation import EXPECTED, two_rounds

MODEL_BYTES = 3_000_000


@pytest.fixture
def environment(monkeypatch):
    """Return a function that names a proxy for both schemes, and no exceptions."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    def name_proxy(url):
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("HTTPS_PROXY", url)

    return name_proxy


@asynccontextmanager
async def straight(address):
    """Dial the server's own address."""
    yield address


async def refusal(environment, **options):
    """Return what connecting through a proxy that refuses fails with."""
    async with connect_proxy(**options) as proxy:
        environment(proxy.url)
        with pytest.raises(ConnectFailed) as caught:
            await Transports(Limits()).connect("ws://127.0.0.1:9/flare")
        return str(caught.value), proxy


@pytest.mark.slow
def test_a_federation_completes_through_a_proxy(environment):
    """Two rounds with 3 MB each way to two sites; not a byte goes past the proxy."""

    async def main():
        async with connect_proxy() as proxy:
            environment(proxy.url)
            return await two_rounds(straight), proxy

    value, proxy = asyncio.run(main())
    assert value == EXPECTED
    assert [line.split(" ")[0] for line in proxy.asked] == ["CONNECT", "CONNECT"]
    assert proxy.carried > 8 * MODEL_BYTES


@pytest.mark.slow
def test_an_encrypted_federation_completes_through_a_proxy(environment, tmp_path):
    """TLS from end to end, with certificates both ways, inside the tunnel."""
    authority = Authority(tmp_path)
    sites = {name: authority.client(name) for name in ("site-1", "site-2")}

    async def main():
        async with connect_proxy() as proxy:
            environment(proxy.url)
            options = {"credentials": authority.server(), "sites": sites}
            return await two_rounds(straight, scheme="wss", **options), len(proxy.asked)

    assert asyncio.run(main()) == (EXPECTED, 2)


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_named_with_its_status(environment, status):
    """So that nobody looks for the fault at the server."""
    text, proxy = asyncio.run(refusal(environment, refuse=status))
    assert f"the proxy {proxy.url} answered {status}" in text
    assert proxy.asked == ["CONNECT 127.0.0.1:9 HTTP/1.1"]


def test_user_and_password_are_shown_to_the_proxy(environment):
    """Without them it refuses, with them there is a tunnel."""

    async def main():
        network = Transports(Limits())
        listener = await network.listen("ws://127.0.0.1:0")
        async with connect_proxy(authorization="Basic bWU6c2VjcmV0") as proxy:
            environment(proxy.url)
            with pytest.raises(ConnectFailed, match="407"):
                await network.connect(listener.address)
            environment(proxy.url.replace("//", "//me:secret@"))
            link = await network.connect(listener.address)
            link.abort()
            await listener.aclose()
        return len(proxy.asked)

    assert asyncio.run(main()) == 2


def test_a_server_that_the_proxy_cannot_reach_is_told(environment):
    """The proxy closes the connection: the error says through whom the way went."""

    async def main():
        async with connect_proxy() as proxy:
            environment(proxy.url)
            with pytest.raises(ConnectFailed) as caught:
                await Transports(Limits()).connect("ws://127.0.0.1:9/flare")
            return str(caught.value), proxy.url

    text, url = asyncio.run(main())
    assert f"through the proxy {url}: it closed the connection at once" in text


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_what_a_proxy_says_behind_its_answer_is_refused(environment, scheme, tmp_path):
    """It would pass for the server's answer; inside TLS as well."""
    authority = Authority(tmp_path)
    forged = b"HTTP/1.1 404 Not Found\r\n\r\n"

    async def main():
        listener = await Transports(Limits(), authority.server()).listen(f"{scheme}://127.0.0.1:0")
        async with connect_proxy(early=forged) as proxy:
            environment(proxy.url)
            with pytest.raises(ConnectFailed) as caught:
                await Transports(Limits(), authority.client()).connect(listener.address)
            await listener.aclose()
            return str(caught.value), proxy.url

    text, url = asyncio.run(main())
    assert f"the proxy {url} sent {len(forged)} bytes behind its answer" in text
