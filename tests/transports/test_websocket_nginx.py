"""WebSockets behind a real nginx: Debian's package, with its defaults and as the docs have it.

A machine without nginx fails these tests: an ingress that nobody tried is not supported.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from tests.transports.nginx import documented_site, nginx, plain_site
from tests.transports.websocket_federation import EXPECTED, two_rounds

pytestmark = pytest.mark.proxy

SITES = {"with its defaults": plain_site, "as documented": documented_site}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Go straight to this machine, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("name", SITES)
def test_a_federation_completes_behind_nginx(name, tmp_path):
    """Two rounds with 3 MB each way to two sites."""

    @asynccontextmanager
    async def behind(address):
        upstream = address.split("/")[2]
        with nginx(tmp_path, SITES[name], upstream) as authority:
            yield f"ws://{authority}/flare"

    assert asyncio.run(two_rounds(behind)) == EXPECTED


def test_a_server_that_is_down_is_told_apart_from_a_proxy_that_is(tmp_path):
    """Bad Gateway is nginx's own answer."""

    async def main(authority):
        with pytest.raises(ConnectFailed) as caught:
            await Transports(Limits()).connect(f"ws://{authority}/flare")
        return str(caught.value)

    with nginx(tmp_path, plain_site, "127.0.0.1:9") as authority:
        text = asyncio.run(main(authority))
    assert "the answer is 502 Bad Gateway; a proxy is there, the server behind it is not" in text


def test_a_path_that_nginx_does_not_pass_on_is_told(tmp_path):
    """The documented site has one location; elsewhere nginx answers itself."""

    async def main(authority):
        with pytest.raises(ConnectFailed) as caught:
            await Transports(Limits()).connect(f"ws://{authority}/elsewhere")
        return str(caught.value)

    with nginx(tmp_path, documented_site, "127.0.0.1:9") as authority:
        text = asyncio.run(main(authority))
    assert "no flare_async server under this path" in text
