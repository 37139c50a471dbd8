"""F39: peers of other versions, roles or names are refused, and both sides can say why."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.limits import Limits
from flare_async.net.registry import Transports
from flare_async.wire.codec import PREAMBLE, encode
from flare_async.wire.frames import PROTOCOL_VERSION, Goodbye, Hello, ResetCode
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_peer import RawSite, raw_site
from tests.faults.real_world import Validates, until, world
from tests.transports.certificates import Authority

LIMITS = Limits(start_timeout=0.5, shutdown_timeout=0.5, retry_cap=0.5)
NOWHERE = "tcp://127.0.0.1:0"
TOLD = f"version: this side speaks {PROTOCOL_VERSION}"
OTHERS = pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])


def hello(**fields):
    """Return the bytes of a site's Hello with some of its fields forged."""
    honest = {"version": PROTOCOL_VERSION, "peer": "s0", "session": b"s" * 16, "epoch": 0}
    honest |= {"token": b"", "role": "client", "window": 8192, "frame_bytes": 2**20}
    return bytes(encode(Hello(**honest | fields))[0])


def of_version(version):
    """Return a preamble of another version."""
    return PREAMBLE[:-2] + version.to_bytes(2, "big")


async def refused(data):
    """Send bytes to a server; return the frames of its answer, and its log."""
    with capture_logs() as logs:
        async with world(("s0",), Transports(LIMITS), LIMITS, address=NOWHERE) as made:
            async with raw_site(made.address) as raw:
                raw.send_bytes(data)
                with anyio.fail_after(5):
                    answer = await raw.ended()
            await until(lambda: logs)
            assert made.server.sites == {}
    return answer, " ".join(str(log) for log in logs)


@asynccontextmanager
async def impostor(data):
    """Listen as a server that says these bytes to everybody; yields its address and its peers."""
    peers = []

    async def speak(reader, writer):
        writer.write(data)
        peers.append(RawSite(reader, writer))
        await peers[-1].ended()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", peers
    finally:
        server.close()


async def site_at(data):
    """Let a site connect to an impostor; return why it left, and what it said to the impostor."""
    async with (
        impostor(data) as (address, peers),
        world((), Transports(LIMITS), LIMITS, address=NOWHERE) as made,
    ):
        made.start("s0", Validates(), address=address)
        await until(lambda: made.left.get("s0", "running") != "running")
        await until(lambda: any(isinstance(one, Goodbye) for one in peers[0].frames))
        await asyncio.sleep(0)
        return made.left["s0"], len(peers), peers[0].frames


@OTHERS
def test_f39_a_server_refuses_another_versions_site_with_both_numbers(version):
    """The server's log has both; the site gets the server's Hello, which has the other one."""
    answer, log = leaving_nothing(lambda: refused(hello(version=version)))
    assert [type(frame) for frame in answer] == [Hello, Goodbye]
    assert (answer[0].version, answer[1].message) == (PROTOCOL_VERSION, TOLD)
    assert f"'s0' speaks version {version}, this side {PROTOCOL_VERSION}" in log


@OTHERS
def test_f39_a_site_refuses_another_versions_server_with_both_numbers(version):
    """It does not dial again, and tells the server why it leaves."""
    forged = hello(version=version, peer="server", role="server")
    left, dials, said = leaving_nothing(lambda: site_at(forged))
    assert f"'server' speaks version {version}, this side {PROTOCOL_VERSION}" in left
    assert dials == 1
    assert [type(frame) for frame in said] == [Hello, Goodbye]
    assert (said[0].version, said[1].message) == (PROTOCOL_VERSION, TOLD)


@OTHERS
def test_f39_another_versions_preamble_is_refused_before_anything_is_parsed(version):
    """Of what follows another preamble nothing is known; who sent it is told so."""
    forged = of_version(version) + hello()[len(PREAMBLE) :]
    answer, log = leaving_nothing(lambda: refused(forged))
    assert [type(frame) for frame in answer] == [Hello, Goodbye]
    assert answer[0].version == PROTOCOL_VERSION
    assert answer[1].message == f"version: this side speaks {PROTOCOL_VERSION}"
    assert f"the peer speaks format {version}, this side format 1" in log


@pytest.mark.parametrize(
    "forged", [{"role": "server"}, {"role": "trainer"}, {"peer": "../s0"}], ids=str
)
def test_f39_another_role_or_an_impossible_name_is_refused(forged):
    """A server takes clients only, by names that are names."""
    answer, log = leaving_nothing(lambda: refused(hello(**forged)))
    assert answer[-1] == Goodbye(int(ResetCode.REFUSED), "not a site's name or role")
    assert "site_refused" in log


def test_f39_a_name_that_is_not_the_certificates_is_refused(tmp_path):
    """Identity comes from the link, never from what is said over it."""
    authority = Authority(tmp_path / "authority")
    there = Transports(LIMITS, authority.server())
    here = Transports(LIMITS, authority.client("s1"))

    async def main():
        async with world(("s0",), there, LIMITS, address="tls://127.0.0.1:0") as made:
            made.start("s0", Validates(), network=here)
            await until(lambda: made.left.get("s0", "running") != "running")
            return made.left["s0"], dict(made.server.sites)

    left, sites = leaving_nothing(main)
    assert "the certificate is another site's" in left
    assert sites == {}
