"""The transport port: schemes are found, made once, and refused by name."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace

import pytest

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.limits import Limits
from flare_async.net.credentials import Credentials
from flare_async.net.registry import BUILT_IN, ENCRYPTED, Transports
from flare_async.transports.memory import MemoryTransport
from tests.transports.certificates import Authority

ENTRY_POINT = """[flare_async.transports]
elsewhere = flare_async.transports.memory:MemoryTransport
"""


@pytest.fixture
def transports():
    """Return the transports of one process."""
    return Transports(Limits())


@pytest.mark.parametrize("scheme", BUILT_IN)
def test_built_in_schemes_are_transports(scheme, tmp_path):
    """Each built-in name leads to a class that says the same scheme."""
    credentials = Credentials(tmp_path, tmp_path, tmp_path)
    assert Transports(Limits(), credentials)._find(f"{scheme}://somewhere").scheme == scheme


@pytest.mark.parametrize("scheme", sorted(ENCRYPTED))
def test_encryption_needs_credentials(transports, scheme):
    """Without them the error says what to give; nothing is connected in the clear."""

    async def main():
        for call in (transports.connect, transports.listen):
            with pytest.raises(ConfigError, match=f"{scheme} needs.*give Transports"):
                await call(f"{scheme}://127.0.0.1:0")

    asyncio.run(main())


@pytest.mark.parametrize("field", ["certificate", "key", "authority"])
def test_unusable_credentials_are_named_when_they_are_used(field, tmp_path):
    """Both connecting and listening name the file."""

    async def main():
        for call in (network.connect, network.listen):
            with pytest.raises(ConfigError, match=f"credentials.{field}=.*nowhere"):
                await call("tls://127.0.0.1:0")

    good = Authority(tmp_path).server()
    network = Transports(Limits(), replace(good, **{field: tmp_path / "nowhere"}))
    asyncio.run(main())


def test_a_transport_is_made_once(transports):
    """Two addresses of one scheme share a transport; two processes share nothing."""
    first = transports._find("memory://a")
    assert transports._find("memory://b") is first
    assert Transports(Limits())._find("memory://a") is not first


@pytest.mark.parametrize(
    "address", ["", "memory", "://x", "gopher://x", "MEMORY://x", "tcp:host:1"]
)
def test_other_addresses_are_refused(transports, address):
    """The error names the address, and what is known or needed."""

    async def main():
        for call in (transports.connect, transports.listen):
            with pytest.raises(ConfigError, match="address=") as caught:
                await call(address)
            assert "memory" in str(caught.value) or "scheme" in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize(
    "address",
    ["tcp://host", "tcp://host:x", "tcp://:1", "tcp://host:70000", "tcp://.host:1", "tcp://a..b:1"],
)
def test_a_tcp_address_needs_host_and_port(transports, address):
    """What is missing is a ConfigError before anything is resolved."""

    async def main():
        with pytest.raises(ConfigError):
            await transports.connect(address)

    asyncio.run(main())


@pytest.mark.parametrize("address", ["unix://relative", "unix:///" + "x" * 107])
def test_a_socket_path_is_absolute_and_short(transports, address):
    """The system's bound on a path is told as such."""

    async def main():
        with pytest.raises(ConfigError, match="107 bytes"):
            await transports.connect(address)

    asyncio.run(main())


@pytest.mark.parametrize("address", ["memory://nobody", "tcp://127.0.0.1:1", "unix:///nowhere/s"])
def test_nobody_listens(transports, address):
    """A refused connection names the address."""

    async def main():
        with pytest.raises(ConnectFailed, match=address):
            await transports.connect(address)

    asyncio.run(main())


def test_an_address_has_one_listener(transports, tmp_path):
    """A second one is refused, by name or by the system, and the first lives on."""

    async def main(address):
        listener = await transports.listen(address)
        with pytest.raises(ConnectFailed):
            await transports.listen(listener.address)
        link = await transports.connect(listener.address)
        (await anext(listener)).abort()
        link.abort()
        await listener.aclose()
        assert [item async for item in listener] == []

    for address in ("memory://one", "tcp://127.0.0.1:0"):
        asyncio.run(main(address))


def test_other_transports_come_from_entry_points(transports, tmp_path, monkeypatch):
    """An installed package adds a scheme by declaring it."""
    folder = tmp_path / "elsewhere-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert isinstance(transports._find("elsewhere://x"), MemoryTransport)
