"""What reaches a listening server before it knows who speaks (B01-B03, B05, B07, B20)."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from contextlib import AsyncExitStack

import msgpack
import pytest

from flare_async.limits import Limits
from flare_async.wire.codec import PREAMBLE, encode
from flare_async.wire.frames import Hello, Ping
from flare_async.wire.head import HELLO_BYTES, Kind
from tests.hostile.port import Port, guarded, hello, reasons
from tests.wire.strategies import forged, forged_head

pytestmark = pytest.mark.asyncio

TLS_HELLO = bytes.fromhex("160301010001000100fc0303") + bytes(244)
STRANGERS = {
    "random bytes": random.Random(1).randbytes(500),
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a browser's websocket": b"GET /flare HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": TLS_HELLO,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(4000),
    "another version's preamble": b"\x89FLARE\x00\x02" + bytes(100),
    "a frame without a greeting": forged(Kind.PING),
    "a greeting that begins with a ping": PREAMBLE + encode(Ping(1))[0],
}


def one_line(port: Port, text: str) -> None:
    """Check that all that was said about the attack is one printable line."""
    (line,) = port.logs
    assert text in str(line["error"])
    assert all(str(value).isprintable() for value in line.values())


@pytest.mark.parametrize("data", STRANGERS.values(), ids=STRANGERS)
async def test_b01_who_does_not_speak_the_protocol_is_told_and_closed(data: bytes) -> None:
    """One line, with a hint; the honest pull goes on beside it."""
    async with guarded() as port:
        answer = await port.attack(data)
        await port.step()
        assert [type(frame) for frame in answer[:1]] in ([], [Hello])
        if data.startswith(PREAMBLE[:-1]) and data[len(PREAMBLE) - 1] != PREAMBLE[-1]:
            assert reasons(answer) == ["version: this side speaks 1"]
            one_line(port, "the peer speaks format 2, this side format 1")
            return
        assert reasons(answer) in ([], ["not_flare"])
        one_line(port, "this is a flare_async port")


@pytest.mark.parametrize("sent", [b"", PREAMBLE[:3], PREAMBLE, encode(hello())[0][:-1]])
async def test_b02_a_peer_that_does_not_finish_its_hello_is_closed_in_time(sent: bytes) -> None:
    """It says nothing, or stops in the middle."""
    async with guarded(Limits(handshake_timeout=0.2)) as port:
        await port.attack(sent)
        await port.step()
        one_line(port, "sent no hello within 0.2 s")


async def test_b02_a_byte_now_and_then_does_not_move_the_deadline() -> None:
    """A valid hello, so slowly that it takes longer than is allowed."""
    greeting = encode(hello())[0]
    async with guarded(Limits(handshake_timeout=0.2)) as port:
        async with port.raw() as peer:
            closed = False
            for at in range(len(greeting)):
                peer.send(greeting[at : at + 1])
                try:
                    closed = await drained(peer, 0.02)
                except TimeoutError:
                    continue
                except ConnectionResetError:  # a byte was on its way when the server closed
                    closed = True
                if closed:
                    break
        await port.until(lambda: bool(port.logs))
        assert closed
        one_line(port, "sent no hello within 0.2 s")


async def drained(peer, seconds: float) -> bool:
    """Read for so long; return whether the end came."""
    async with asyncio.timeout(seconds):
        while not peer.reader.at_eof():
            await peer.reader.read(1000)
    return True


@pytest.mark.parametrize("burst", [False, True], ids=["one by one", "all at once"])
async def test_b03_half_open_links_are_capped_and_the_honest_do_not_notice(burst: bool) -> None:
    """Beyond the cap the oldest goes, so that a latecomer still gets in."""
    cap, count = 8, 200
    async with guarded(Limits(handshakes=cap, handshake_timeout=60.0)) as port:
        async with AsyncExitStack() as stack:
            opening = [stack.enter_async_context(port.raw()) for _ in range(count)]
            peers = await asyncio.gather(*opening) if burst else [await peer for peer in opening]
            ends = [asyncio.ensure_future(peer.answer()) for peer in peers]
            await port.until(lambda: sum(end.done() for end in ends) >= count - cap)
            await port.step()
            late = await stack.enter_async_context(port.raw())
            late.send(encode(hello("latecomer"))[0])
            await port.until(lambda: "latecomer" in port.server.sites)
            assert sum(end.done() for end in ends) in {count - cap, count - cap + 1}
        await asyncio.gather(*ends)


async def test_b05_a_length_without_its_bytes_holds_one_piece_and_not_the_frame() -> None:
    """A megabyte is announced; what waits for it grows with what arrives."""
    async with guarded() as port, port.raw() as peer:
        peer.send(encode(hello())[0])
        await port.until(lambda: "site-2" in port.server.sites)
        tracemalloc.start()
        try:
            peer.send(forged_head(2**20, Kind.DATA, place=(1, 0)) + bytes(10))
            for _ in range(50):
                await port.until(lambda: True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 200_000


@pytest.mark.parametrize("sent", [0, 1, 10, 60_000])
async def test_b05_a_length_and_then_the_end_is_a_lost_link(sent: int) -> None:
    """Wherever it is cut: our end is closed, and the session waits for its next link."""
    async with guarded() as port:
        async with port.raw() as peer:
            peer.send(encode(hello())[0])
            await port.until(lambda: "site-2" in port.server.sites)
            peer.send(forged_head(2**20, Kind.DATA, place=(1, 0)) + bytes(sent))
            peer.writer.write_eof()
            await peer.answer()
        assert port.server.sites["site-2"].channels == {}
        assert port.logs == []


async def test_b05_a_length_and_then_silence_ends_with_the_heartbeat() -> None:
    """A part of a frame puts the verdict off once, not for ever."""
    limits = Limits(heartbeat_interval=0.1, session_grace=60.0)
    async with guarded(limits) as port, port.raw() as peer:
        peer.send(encode(hello())[0] + forged_head(2**20, Kind.DATA, place=(1, 0)))
        await port.until(lambda: "site-2" in port.server.sites)
        await peer.answer()


@pytest.mark.parametrize("version", [0, 2, 9, 65_535])
async def test_b07_another_version_is_refused_with_both_numbers(version: int) -> None:
    """A newer one and an offer to go below ours."""
    async with guarded() as port:
        answer = await port.attack(encode(hello(version=version))[0])
        assert reasons(answer) == ["version: this side speaks 1"]
        one_line(port, f"speaks version {version}, this side 1")


BAD_NAMES = {
    "an escape sequence": "\x1b[31mred",
    "a new line": "site-2\nsite-3",
    "NUL": "a\0b",
    "a right-to-left mark": "a\u202eb",
    "256 characters": "x" * 256,
    "blanks around": " site ",
    "empty": "",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
async def test_b20_a_name_that_could_forge_a_line_is_refused_with_the_hello(name: str) -> None:
    """The log says which field and shows it in plain ASCII."""
    fields = [1, name, bytes(16), 0, b"", "client", 65_536, 2**20, 0]
    async with guarded() as port:
        answer = await port.attack(PREAMBLE + forged(Kind.HELLO, msgpack.packb(fields)))
        assert reasons(answer) == ["bad_body"]
        one_line(port, "Hello.peer is ")


async def test_b20_a_name_of_a_megabyte_is_refused_by_its_length() -> None:
    """A Hello has at most 4 KiB."""
    async with guarded() as port:
        answer = await port.attack(PREAMBLE + forged_head(2**20, Kind.HELLO) + bytes(1000))
        assert reasons(answer) == ["bad_length"]
        one_line(port, f"at most {HELLO_BYTES} of body")


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "-x", "a b", "é", "x" * 129, "a:b", "a\\b"])
async def test_b20_a_printable_name_that_is_no_sites_is_refused(name: str) -> None:
    """Such a name would become a folder's or a key."""
    async with guarded() as port:
        answer = await port.attack(encode(hello(name))[0])
        assert reasons(answer) == ["not a site's name or role"]
        (line,) = port.logs
        assert all(str(value).isprintable() for value in line.values())
        assert name == "." or name not in str(line)
