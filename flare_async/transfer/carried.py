"""Small tensors behind a message: carried by its channel, instead of pulled by their reference.

Their owner offers them in any case, so whoever cannot use what was carried pulls. Several tensors
are one row of bytes, in the order of their manifest, with one blake3 over byte transports. A frame
for each of many tiny tensors would cost its reader more than its sender, and readers bound that; so
where there is a tiny one the row leaves as one copy, made once for all readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flare_async.errors import RemoteProtocolError
from flare_async.hot_value import hot_value
from flare_async.net.channel import Chunk
from flare_async.transfer.digest import tensor_hasher
from flare_async.transfer.offer import Offer
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.source import MemorySource
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.budgets import TINY_BYTES

__all__ = ["Carried", "carried_digest", "carried_views", "fits_digest", "pour", "whole_views"]

UNHASHED: Final = b""  # of what was never copied


@hot_value(frozen=True, slots=True)
class Carried:
    """What a channel has carried, in the pieces that came, and what their digest is to be."""

    chunks: Sequence[Chunk]
    digest: bytes


def carried_digest(offer: Offer, *, by_reference: bool) -> bytes | None:
    """Return the digest to announce for an offer that is to be carried; None if it cannot be.

    It is empty where tensors go by reference, and computed once for all readers elsewhere.
    """
    source = offer.source
    if not isinstance(source, MemorySource):
        return None  # its bytes are on a disk, or another process's
    if by_reference:
        return UNHASHED
    if offer.carried is None:
        hasher = tensor_hasher()
        for name in offer.sizes:
            hasher.update(source.tensors[name])
        offer.carried = hasher.digest()
    return offer.carried


def carried_views(offer: Offer, *, by_reference: bool) -> list[memoryview]:
    """Return what to send behind the message that announces it: each tensor, or all as one row."""
    tensors = offer.source.tensors if isinstance(offer.source, MemorySource) else {}
    views = [tensors[name] for name, size in offer.sizes.items() if size]
    if by_reference or len(views) < 2 or min(view.nbytes for view in views) >= TINY_BYTES:
        return views
    if offer.row is None:
        offer.row = memoryview(b"".join(views))
    return [offer.row]


def fits_digest(chunks: Sequence[Chunk], digest: bytes) -> bool:
    """Tell whether bytes that a byte transport brought are those that were sent."""
    hasher = tensor_hasher()
    for chunk in chunks:
        hasher.update(memoryview(chunk))
    return hasher.digest() == digest


def whole_views(
    chunks: Sequence[Chunk], specs: Sequence[TensorSpec]
) -> dict[str, memoryview] | None:
    """Return a row of bytes by tensor where each has come in one piece; None where it has not."""
    if len(chunks) != len(specs):
        return None
    views: dict[str, memoryview] = {}
    for spec, chunk in zip(specs, chunks, strict=True):
        view = views[spec.name] = memoryview(chunk)
        if view.nbytes != spec.nbytes:
            return None
    return views


def pour(
    chunks: Sequence[Chunk], specs: Sequence[TensorSpec], sink: TensorSink, *, adopt: bool
) -> None:
    """Give a row of bytes to a sink that has begun, tensor by tensor.

    With ``adopt`` a chunk that is a whole tensor becomes that tensor, without a copy.

    Raises:
        RemoteProtocolError: the row is shorter than the tensors, or longer.
        FlareError: the sink cannot keep them.
    """
    row = iter(chunks)
    here = memoryview(b"")
    for spec in specs:
        at, size = 0, spec.nbytes
        while at < size:
            here = here or memoryview(next(row, b""))
            if not here:
                raise RemoteProtocolError("short", f"tensor {spec.name!r}: {at} of {size} bytes")
            piece, here = here[: size - at], here[size - at :]
            if adopt and len(piece) == size:
                sink.adopt(spec.name, piece)
            else:
                sink.write(spec.name, at, piece)
            at += len(piece)
    if here or next(row, None) is not None:
        raise RemoteProtocolError("too_long", "bytes behind the last tensor")
