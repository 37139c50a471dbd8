"""Stream links: what is left when one has refused its peer."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import MIB, Limits
from flare_async.net.registry import Transports
from flare_async.testing.link_checks import bulk
from flare_async.testing.recorder import Recorder
from tests.transports.loops import LOOPS, run_on


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_peer_that_reads_nothing_holds_no_socket(loop):
    """The last words wait as long as ``aclose`` may; then the connection is cut."""

    async def main():
        listener = await Transports(Limits()).listen("tcp://127.0.0.1:0")
        port = int(listener.address.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        link, recorder = await anext(listener), Recorder()
        link.start(recorder)
        while link.writable:
            link.send_soon(bulk(link, bytes(8 * MIB)))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await recorder.until_lost()
        assert isinstance(recorder.lost_with[0], RemoteProtocolError)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.aclose(), 0.05)
        await link.aclose()
        assert link._transport.get_write_buffer_size() == 0
        writer.transport.abort()
        await listener.aclose()

    run_on(LOOPS[loop], main)
