"""Which chunks of a tensor have arrived damaged: its owner's digests beside those that landed."""

from __future__ import annotations

import asyncio

import anyio

from flare_async.errors import AckStalled, ChannelReset, RemoteProtocolError
from flare_async.net.channel import Channel
from flare_async.transfer.digest import CHUNK, CHUNK_DIGEST, TENSOR_DIGEST, chunk_digests
from flare_async.transfer.fetching import Fetching, Retries, is_stall, translate
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, DigestRequest
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["ask_digests", "bad_ranges", "chunk_count"]


def chunk_count(nbytes: int) -> int:
    """Return how many chunks bytes make up."""
    return -(-nbytes // CHUNK)


async def bad_ranges(
    fetching: Fetching, spec: TensorSpec, retries: Retries
) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a tensor's digest at its owner, and the ranges that differ here, in order.

    Waits as ``Downloader.fetch`` does; compares in steps of a chunk.

    Raises:
        FlareError: as ``Downloader.fetch``.
    """
    size = chunk_count(spec.nbytes) * CHUNK_DIGEST
    data, trailer = await ask_digests(fetching, spec.name, size, retries)
    if len(trailer) != TENSOR_DIGEST:
        raise RemoteProtocolError("bad_digests", f"tensor {spec.name!r}: {len(trailer)} bytes")
    ranges: list[tuple[int, int]] = []
    for at in range(0, spec.nbytes, CHUNK):
        stop = min(at + CHUNK, spec.nbytes)
        first = at // CHUNK * CHUNK_DIGEST
        theirs = data[first : first + CHUNK_DIGEST]
        if chunk_digests(fetching.sink.read(spec.name, at, stop - at)) != theirs:
            joined = ranges.pop()[0] if ranges and ranges[-1][1] == at else at
            ranges.append((joined, stop))
        await asyncio.sleep(0)
    return trailer, ranges


async def ask_digests(
    fetching: Fetching, tensor: str, nbytes: int, retries: Retries
) -> tuple[bytes, bytes]:
    """Ask the owner for ``nbytes`` of digests; return them and the closing frame's trailer.

    Waits as ``Downloader.fetch`` does, and while the owner hashes no longer than ``stall_timeout``
    at a time.

    Raises:
        FlareError: as ``Downloader.fetch``.
    """
    request = PULL_SCHEMA.encode(DigestRequest(fetching.ref.key, tensor))
    while True:
        channel = fetching.session.open(PULL_TOPIC, request, OpenOptions(end=True))
        try:
            return await _read(channel, nbytes), channel.trailer
        except (AckStalled, ChannelReset) as exc:
            if not is_stall(exc):
                raise (translate(exc) if isinstance(exc, ChannelReset) else exc) from exc
            await retries.pause(exc)
        finally:
            channel.reset(ResetCode.CANCELLED, "not needed any more")


async def _read(channel: Channel, nbytes: int) -> bytes:
    data = bytearray()
    try:
        while len(data) <= nbytes:
            data += await channel.receive_moving()
    except anyio.EndOfStream:
        pass
    if len(data) != nbytes:
        raise RemoteProtocolError("bad_digests", f"{len(data)} bytes came, {nbytes} expected")
    return bytes(data)
