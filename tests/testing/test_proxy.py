"""The toxic proxy on real sockets: it forwards, counts, and does what it is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import uvloop

from flare_async.errors import ConfigError
from flare_async.limits import KIB, MIB
from flare_async.testing import ToxicProxy, Toxics, cancel_everywhere
from flare_async.testing.link_checks import HELLO, sample
from flare_async.testing.proxy_lane import LANE_BYTES
from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
DATA = sample(3 * MIB)


@pytest.fixture(params=LOOPS)
def run(request):
    """Return a function that runs a coroutine on a real loop, bounded, without leftovers."""

    def run_on(main):
        unhandled = []

        async def bounded():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unhandled.append(context))
            async with asyncio.timeout(10):
                return await main()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            result = runner.run(bounded())
        assert unhandled == []
        return result

    return run_on


@asynccontextmanager
async def proxied(data=DATA):
    """Yield a proxy before a server that sends ``data`` and then echoes until the end."""

    async def serve(reader, writer):
        try:
            writer.write(data)
            while piece := await reader.read(64 * KIB):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with ToxicProxy(f"tcp://127.0.0.1:{port}") as proxy:
        yield proxy
    server.close()
    await asyncio.sleep(0.01)


async def connect(proxy):
    """Return a reader and a writer."""
    parts = urlsplit(proxy.address)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def read_all(proxy, count=None):
    """Connect and read to the end, or so many bytes; return them and what ended it."""
    reader, writer = await connect(proxy)
    got, error = bytearray(), None
    try:
        while (count is None or len(got) < count) and (piece := await reader.read(MIB)):
            got += piece
    except ConnectionError as exc:
        error = type(exc)
    writer.close()
    return bytes(got), error


def test_bytes_are_forwarded_and_counted(run):
    """Both ways, for each connection and for all of them."""

    async def main():
        async with proxied() as proxy:
            for _ in range(2):
                reader, writer = await connect(proxy)
                writer.write(b"echo")
                writer.write_eof()
                assert await reader.read(-1) == DATA + b"echo"
                writer.close()
            per = [(c.up.forwarded, c.down.forwarded) for c in proxy.connections]
            return per, proxy.up.received, proxy.down.received

    size = len(DATA) + 4
    assert run(main) == ([(4, size), (4, size)], 8, 2 * size)


def test_payload_of_the_protocol_is_counted_by_its_heads(run):
    """Heads, control frames and trailers are not payload; what is no protocol has none."""
    data = [Data(1, 0, DATA[:MIB]), Data(1, MIB, b"tail"), Data(1, 9, b"", True, b"x")]
    frames = [HELLO, data[0], Ack(1, 2, 3), *data[1:]]
    stream = b"".join(bytes(part) for frame in frames for part in encode(frame))

    async def main(data):
        async with proxied(data) as proxy:
            await read_all(proxy, len(data))
            return proxy.down.payload, proxy.connections[0].down.payload

    assert run(lambda: main(stream)) == (MIB + 4, MIB + 4)
    assert run(lambda: main(b"\x16\x03\x01" + DATA)) == (0, 0)


def test_connections_are_reset_at_exact_bytes_over_all_of_them(run):
    """The bytes before are delivered, one position after the other."""

    async def main():
        async with proxied() as proxy:
            proxy.reset_at([1, 100_000, 2_000_003])
            got, passed = [], []
            for _ in range(3):
                got.append(await read_all(proxy))
                passed.append(proxy.down.forwarded)
            assert passed == [1, 100_000, 2_000_003]
            rest, _ = await read_all(proxy, len(DATA))
            return [(len(data), error) for data, error in got], len(rest), proxy.resets

    resets, rest, count = run(main)
    assert resets == [
        (1, ConnectionResetError),
        (99_999, ConnectionResetError),
        (1_900_003, ConnectionResetError),
    ]
    assert (rest, count) == (len(DATA), 3)


def test_toxics_change_no_byte(run):
    """Late, slow and in slices, but whole and in order."""

    async def main(toxics):
        async with proxied(DATA[: 200 * KIB]) as proxy:
            proxy.set(toxics)
            return (await read_all(proxy, 200 * KIB))[0]

    for toxics in (
        Toxics(latency=0.02, jitter=0.02),
        Toxics(bandwidth=4e6),
        Toxics(slice_bytes=777),
        Toxics(latency=0.01, bandwidth=8e6, slice_bytes=5000, slow_close=0.01),
    ):
        assert run(lambda toxics=toxics: main(toxics)) == DATA[: 200 * KIB]


def test_data_are_limited(run):
    """The connection ends in order after so many bytes."""

    async def main():
        async with proxied() as proxy:
            proxy.set(Toxics(limit_data=12_345), "down")
            return await read_all(proxy)

    assert run(main) == (DATA[:12_345], None)


def test_a_stopped_direction_holds_bounded_memory_and_goes_on_when_cleared(run):
    """Nothing passes, the connection stays open; later everything is there."""

    async def main():
        async with proxied() as proxy:
            proxy.set(Toxics(stopped=True), "down")
            reader, writer = await connect(proxy)
            writer.write(b"up passes")
            while proxy.up.forwarded < 9:
                await asyncio.sleep(0.001)
            held = proxy.down.received
            forwarded, live = proxy.down.forwarded, proxy.live
            proxy.clear()
            got = await reader.readexactly(len(DATA) + 9)
            writer.close()
            return held, forwarded, live, got

    held, forwarded, live, got = run(main)
    assert held <= LANE_BYTES + 512 * KIB
    assert (forwarded, live, got) == (0, 1, DATA + b"up passes")


def test_a_timeout_closes_what_is_stopped(run):
    """The connection ends without a byte."""

    async def main():
        async with proxied() as proxy:
            proxy.set(Toxics(stopped=True, timeout=0.05))
            return await read_all(proxy)

    assert run(main) == (b"", None)


def test_peers_are_reset_or_refused_on_demand(run):
    """A reset is an error, a hang-up an end; a refusing proxy resets at once."""

    async def main():
        async with proxied(b"x") as proxy:
            ends = []
            for act in (proxy.reset_peers, proxy.hang_up):
                reader, writer = await connect(proxy)
                await reader.readexactly(1)
                act()
                try:
                    ends.append(await reader.read())
                except ConnectionResetError:
                    ends.append("reset")
                writer.close()
            proxy.refusing = True
            ends.append((await read_all(proxy))[1])
            return ends

    assert run(main) == ["reset", b"", ConnectionResetError]


def test_scheme_and_path_are_kept():
    """Any protocol over TCP passes."""

    async def main():
        async with ToxicProxy("wss://localhost:9/path?query") as proxy:
            return proxy.address

    address = asyncio.run(main())
    assert address.startswith("wss://127.0.0.1:")
    assert address.endswith("/path?query")


def test_what_makes_no_sense_is_refused():
    """Typed, with the field."""
    with pytest.raises(ConfigError, match="scheme://host:port"):
        ToxicProxy("tcp://nowhere")
    for toxics in ({"latency": -1}, {"bandwidth": 0}, {"slice_bytes": 0}, {"timeout": 0}):
        with pytest.raises(ConfigError, match="Toxics"):
            Toxics(**toxics)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_cancelled_proxy_leaves_nothing(loop):
    """At every await of entering, forwarding and leaving."""

    async def leaves_a_server(_):
        proxy = ToxicProxy("tcp://127.0.0.1:9")
        async with proxy:
            await asyncio.sleep(0.001)

    found = cancel_everywhere(leaves_a_server, loop_factory=loop)
    assert found.cancelled > 0
