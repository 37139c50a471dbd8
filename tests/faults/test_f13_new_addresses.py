"""F13: a site whose address changes goes on with its session; the old connection is fenced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flare_async.errors import HandshakeFailed, SessionGone
from flare_async.limits import MIB, Limits
from flare_async.net.registry import Transports
from flare_async.testing.proxy import ToxicProxy
from flare_async.testing.recorder import Recorder
from flare_async.testing.toxics import Toxics
from flare_async.wire.frames import Goodbye, Hello
from tests.faults.real_ends import Dialling, acceptor, dialled
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_world import until
from tests.transports.certificates import Authority

SERVER = Limits(stall_timeout=60.0)
# The site finds first that nobody answers any more.
SITE = replace(SERVER, heartbeat_interval=0.2, handshake_timeout=0.6)
BOTH = pytest.mark.parametrize("scheme", ["tcp", "tls"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return an authority for all tests of this file."""
    return Authority(tmp_path_factory.mktemp("authority"))


def networks(scheme, authority, name="near"):
    """Return the ports of a server and of a site."""
    if scheme == "tcp":
        return Transports(SERVER), Transports(SITE)
    return Transports(SERVER, authority.server()), Transports(SITE, authority.client(name))


@pytest.mark.slow
@BOTH
def test_f13_the_session_goes_on_from_another_port(authority, scheme):
    """The old connection stays half-open; the server learns by the new one, not by silence."""
    server, site = networks(scheme, authority)

    async def main():
        async with (
            acceptor(server, f"{scheme}://127.0.0.1:0", SERVER) as accepted,
            ToxicProxy(accepted.address) as old,
            ToxicProxy(accepted.address) as new,
        ):
            dial = Dialling(site, old.address)
            async with dialled(dial, SITE) as session:
                await until(lambda: accepted.sessions)
                far = accepted.sessions[0]
                mine = session.open("bulk")
                theirs = await anext(far)
                before, number = far.link, session.id
                old.set(Toxics(stopped=True))
                dial.address = new.address
                mine.send_soon(b"said into the void")
                assert await theirs.receive() == b"said into the void"
                assert (far.id, far.identity, far.epoch) == (
                    number,
                    None if scheme == "tcp" else "near",
                    1,
                )
                assert far.link.address != before.address
                assert (before._lost, far.link._lost) == (True, False)
                assert (len(accepted.sessions), accepted.refused) == (1, [])

    leaving_nothing(main)


@pytest.mark.slow
def test_f13_another_identity_cannot_take_the_session_over(authority):
    """Who knows the session's id and name but has another certificate learns nothing by it."""
    server, site = networks("tls", authority)
    other = Transports(SITE, authority.client("other"))

    async def main():
        async with (
            acceptor(server, "tls://127.0.0.1:0", SERVER) as accepted,
            dialled(Dialling(site, accepted.address), SITE) as session,
        ):
            await until(lambda: accepted.sessions)
            link, told = await other.connect(accepted.address), Recorder()
            link.start(told)
            hello = Hello(1, "near", session.id, 1, b"", "test", 8192, MIB)
            link.send_soon([hello])
            await told.until_lost()
            assert [type(frame) for frame in told.frames] == [Hello, Goodbye]
            assert told.frames[1].message == "no such session"
            await until(lambda: accepted.refused)
            assert isinstance(accepted.refused[0], HandshakeFailed)
            assert (session.attached, session.epoch, accepted.sessions[0].epoch) == (True, 0, 0)

    leaving_nothing(main)


@pytest.mark.slow
def test_f13_a_site_that_shows_another_certificate_later_is_refused(authority):
    """The session ends for the site, too: it has to begin a new one under its new name."""
    server, site = networks("tls", authority)
    other = Transports(SITE, authority.client("other"))

    async def main():
        async with (
            acceptor(server, "tls://127.0.0.1:0", SERVER) as accepted,
            ToxicProxy(accepted.address) as proxy,
        ):
            dial = Dialling(site, proxy.address)
            async with dialled(dial, SITE) as session:
                await until(lambda: accepted.sessions)
                dial.network = other
                proxy.reset_peers()
                await until(lambda: session.ended)
                assert isinstance(session.error, SessionGone)

    leaving_nothing(main)
