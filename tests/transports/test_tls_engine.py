"""The engine without sockets: any split, any damage, any garbage."""

from __future__ import annotations

import contextlib
import random
import ssl
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.transports.tls_engine import PIECE_BYTES, TlsEngine
from tests.transports.certificates import Authority

OVERHEAD = 1024  # of the records of one piece, and of what TLS itself says


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Return a server's and a client's context."""
    credentials = Authority(tmp_path_factory.mktemp("authority")).server()
    return credentials.server_context(), credentials.client_context()


@pytest.fixture
def pair(contexts):
    """Return two engines whose handshake is done."""
    return connected(contexts)


def connected(contexts):
    server, client = TlsEngine(contexts[0], None), TlsEngine(contexts[1], "localhost")
    done = set()
    while len(done) < 2:
        for here, there in ((client, server), (server, client)):
            if here.shake():
                done.add(here)
            there.feed(memoryview(here.take()))
    return client, server


def sent(engine, *parts):
    for part in parts:
        engine.queue(part)
    out = bytearray()
    while engine.queued:
        piece = engine.encrypt()
        assert len(piece) <= PIECE_BYTES + OVERHEAD
        out += piece
    return bytes(out)


def read(engine, data, room=1000):
    """Return what ``data`` decrypts to, read in rooms of that size."""
    found, memory = bytearray(), memoryview(bytearray(room))
    engine.offer(memoryview(data))
    while count := engine.read_into(memory):
        found += memory[:count]
    return bytes(found)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.integers(1, 70_000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 10**6), max_size=5),
    room=st.sampled_from([100, 4096, 16384, 10**6]),
)
def test_any_split_decrypts_to_what_was_sent(contexts, parts, cuts, room):
    """Where parts begin and reads end changes nothing; nothing is left in memory buffers."""
    client, server = connected(contexts)
    plain = [random.Random(size).randbytes(size) for size in parts]
    ciphertext = sent(client, *plain)
    places = sorted({0, len(ciphertext), *(cut % len(ciphertext) for cut in cuts)})
    found = b"".join(read(server, ciphertext[start:end], room) for start, end in pairwise(places))
    assert found == b"".join(plain)
    assert (server.undecrypted, client.queued) == (0, 0)
    server.check()


@settings(max_examples=50, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_damaged_record_never_decrypts_to_other_bytes(contexts, place, bit):
    """What came before it is good, the rest is an error or waits for more."""
    client, server = connected(contexts)
    plain = random.Random(1).randbytes(40_000)
    damaged = bytearray(sent(client, plain))
    damaged[place % len(damaged)] ^= 1 << bit
    found = read(server, bytes(damaged))
    assert plain.startswith(found)
    assert len(found) < len(plain)
    try:
        server.check()
    except ssl.SSLError:
        assert server.encrypt() is not None
        assert server.seal() is not None


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), begin=st.sampled_from([b"", b"\x16\x03\x01\x00\x40", b"GET "]))
def test_garbage_fails_typed_or_waits(contexts, data, begin):
    """Nothing but a TLS error comes out of bytes that are not a handshake."""
    server = TlsEngine(contexts[0], None)
    server.feed(memoryview(begin + data))
    with contextlib.suppress(ssl.SSLError):
        assert not server.shake()
    assert len(server.take()) < 100


def test_an_end_is_read_after_what_came_before(pair):
    """The peer's end is noticed, and the other direction stays open."""
    client, server = pair
    ciphertext = sent(client, b"last words") + client.seal()
    assert read(server, ciphertext) == b"last words"
    assert (server.ended, client.ended) == (True, False)
    assert read(client, sent(server, b"answer")) == b"answer"
    assert read(client, server.seal()) == b""
    assert client.ended


def test_what_is_forgotten_is_not_sent(pair):
    """The queue holds references until then."""
    client, _ = pair
    payload = bytearray(100_000)
    client.queue(memoryview(payload))
    with pytest.raises(BufferError):
        payload.clear()
    client.forget()
    payload.clear()
    assert (client.queued, client.encrypt()) == (0, b"")
