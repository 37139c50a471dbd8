"""B38 and its kin on a TLS link: whoever is refused learns why, on both sides."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from flare_async.errors import ConnectFailed, FlareError, HandshakeFailed, LinkLost
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from flare_async.testing.conformance import connected
from flare_async.testing.link_checks import HELLO
from flare_async.testing.recorder import Recorder
from tests.transports.certificates import Authority
from tests.transports.loops import LOOPS, run_on

BOTH = pytest.mark.parametrize("loop", LOOPS)
SITES = {
    "wrong authority": (
        lambda ours, theirs: replace(theirs.client(), authority=ours.file),
        "it refused us: unknown ca",
        "unable to get local issuer certificate",
    ),
    "expired": (
        lambda ours, _: ours.expired("site-1"),
        "it refused us: certificate expired",
        "certificate has expired",
    ),
    "not yet valid": (
        lambda ours, _: ours.not_yet_valid("site-1"),
        "it refused us: bad certificate",
        "certificate is not yet valid",
    ),
    "self-signed": (
        lambda ours, _: ours.self_signed(),
        "it refused us: unknown ca",
        "self-signed certificate",
    ),
    "for servers only": (
        lambda ours, _: ours.for_servers_only(),
        "it refused us: unsupported certificate",
        "unsuitable certificate purpose",
    ),
    "none": (
        lambda ours, _: ours.client(mutual=False),
        "it demands a certificate",
        "peer did not return a certificate",
    ),
    "no site's name": (
        lambda ours, _: ours.issue("*.example.org"),
        "is there no site's name in our certificate?",
        "its certificate names no site",
    ),
}
SERVERS = {
    "wrong authority": (
        lambda ours, theirs: replace(theirs.server(), authority=ours.file),
        "self-signed certificate in certificate chain|unable to get local issuer",
        "it refused us: unknown ca",
    ),
    "expired": (
        lambda ours, _: ours.expired("127.0.0.1"),
        "certificate has expired",
        "it refused us: certificate expired",
    ),
    "another host": (
        lambda ours, _: ours.issue("elsewhere"),
        "not valid for '127.0.0.1'",
        "it refused us: bad certificate",
    ),
}


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Return the authority that is believed, and another one."""
    return [Authority(tmp_path_factory.mktemp(name)) for name in ("ours", "theirs")]


@asynccontextmanager
async def listening(credentials, scheme="tls"):
    """Yield a listener and its port."""
    listener = await Transports(Limits(), credentials).listen(f"{scheme}://127.0.0.1:0")
    try:
        yield listener, int(listener.address.rpartition(":")[2])
    finally:
        await listener.aclose()


async def told(link):
    """Return what a link that was refused tells, and wait until it is gone."""
    recorder = Recorder()
    link.start(recorder)
    link.send_soon([HELLO])
    await recorder.until_lost()
    await link.aclose()
    assert len(recorder.lost_with) == 1
    return recorder.lost_with[0]


@BOTH
@pytest.mark.parametrize("case", SITES)
def test_b38_a_certificate_that_is_refused(authorities, case, loop):
    """The listener's log has the reason, and the site's first read names it."""
    make, client_says, server_says = SITES[case]

    async def main():
        async with listening(authorities[0].server()) as (listener, _):
            network = Transports(Limits(), make(*authorities))
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                link = await network.connect(listener.address)
                server = group.create_task(told(await anext(listener)))
                client = group.create_task(told(link))
            assert isinstance(client.result(), LinkLost)
            assert client_says in str(client.result())
            assert isinstance(server.result(), HandshakeFailed)
            assert server_says in str(server.result())

    run_on(LOOPS[loop], main)


@BOTH
@pytest.mark.parametrize("case", SERVERS)
def test_b38_a_server_that_is_refused(authorities, case, loop):
    """``connect`` fails with what TLS says, and the listener's log has it too."""
    make, client_says, server_says = SERVERS[case]

    async def main():
        async with listening(make(*authorities)) as (listener, _):
            network = Transports(Limits(), authorities[0].client())
            with pytest.raises(ConnectFailed, match=client_says):
                await network.connect(listener.address)
            error = await told(await anext(listener))
            assert isinstance(error, HandshakeFailed)
            assert server_says in str(error)

    run_on(LOOPS[loop], main)


@BOTH
def test_b38_the_session_names_a_refused_certificate(authorities, loop):
    """The hello that never comes is explained by what TLS said."""

    async def main():
        network = Transports(Limits(), authorities[0].expired("site-1"))

        @asynccontextmanager
        async def links():
            async with listening(authorities[0].server()) as (listener, _):
                yield await network.connect(listener.address), await anext(listener)

        with pytest.raises((FlareError, ExceptionGroup)) as caught:
            async with connected(links):
                pass
        texts = [str(error) for error in leaves(caught.value)]
        assert any("certificate" in text and "expired" in text for text in texts), texts

    run_on(LOOPS[loop], main)


def leaves(error):
    """Return the errors in a group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    assert isinstance(error, HandshakeFailed)
    return [error]


def old_context(credentials):
    """Return a client's context that goes no further than TLS 1.2."""
    context = ssl.create_default_context(cafile=credentials.authority)
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@BOTH
def test_tls_1_2_is_refused(authorities, loop):
    """Both sides say that it is the version."""

    async def main():
        async with listening(authorities[0].server()) as (listener, port):
            context = old_context(authorities[0].client())
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await asyncio.open_connection("127.0.0.1", port, ssl=context)
            assert "both sides need TLS 1.3" in str(await told(await anext(listener)))

    run_on(LOOPS[loop], main)


@BOTH
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks TLS, not HTTP"),
        (bytes(range(256)) * 4, "right port"),
        (b"\x16\x03\x01\xff\xff" + bytes(100), "TLS:"),
        (b"\x16\x03\x01\x00\x10" + bytes(16), "TLS:"),
        (b"\x16\x03\x01\x00\x10", "left in the middle of the TLS handshake"),
    ],
)
def test_b01_other_protocols_are_closed_at_once(authorities, data, says, loop):
    """The peer reads an alert and the end; the listener's log says what came."""

    async def main():
        async with listening(authorities[0].server()) as (listener, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            assert len(answer) in {0, 7}
            error = await told(await anext(listener))
            assert isinstance(error, HandshakeFailed)
            assert says in str(error)

    run_on(LOOPS[loop], main)


@BOTH
def test_who_goes_on_sending_after_a_refusal_is_cut_off(authorities, loop):
    """A refused peer is read so that it sees why, but not without end."""

    async def main():
        async with listening(authorities[0].server()) as (listener, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises(ConnectionError):
                await flood(writer, 10_000)
            assert "not HTTP" in str(await told(await anext(listener)))

    run_on(LOOPS[loop], main)


async def flood(writer, count):
    """Send a KiB so many times, whatever comes back."""
    for _ in range(count):
        writer.write(b"GET / HTTP/1.1\r\n" * 64)
        await writer.drain()


@BOTH
def test_a_probe_that_says_nothing_is_nobodys_business(authorities, loop):
    """A load balancer's check is no failed handshake: the next link is a real one."""

    async def main():
        async with listening(authorities[0].server()) as (listener, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            assert await reader.read() == b""
            network = Transports(Limits(), authorities[0].client())
            link = await network.connect(listener.address)
            accepted = await anext(listener)
            assert accepted.identity == "site-1"
            for end in (link, accepted, listener):
                await end.aclose()

    run_on(LOOPS[loop], main)


@BOTH
def test_tls_to_a_plain_port_and_back(authorities, loop):
    """Neither side takes the other's bytes for its own protocol."""

    async def main():
        network = Transports(Limits(handshake_timeout=2), authorities[0].client())
        async with listening(None, "tcp") as (plain, port), asyncio.TaskGroup() as group:
            task = group.create_task(refused(network, f"tls://127.0.0.1:{port}"))
            assert "not_flare" in str(await told(await anext(plain)))
        assert "TLS" in str(task.result())
        async with listening(authorities[0].server()) as (encrypted, port):
            link = await network.connect(f"tcp://127.0.0.1:{port}")
            async with asyncio.TaskGroup() as group:
                group.create_task(told(link))
                assert "right port" in str(await told(await anext(encrypted)))

    run_on(LOOPS[loop], main)


async def refused(network, address):
    """Return what connecting fails with."""
    with pytest.raises(ConnectFailed) as caught:
        await network.connect(address)
    return caught.value
