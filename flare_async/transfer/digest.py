"""Digests of tensors: blake3 says whether a tensor is whole, xxh3 which chunk to pull again."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Protocol

import xxhash
from blake3 import blake3

from flare_async.limits import MIB
from flare_async.net.zeros import is_zeros, zeros

__all__ = [
    "CHUNK",
    "CHUNK_DIGEST",
    "TENSOR_DIGEST",
    "DigestBuilder",
    "TensorHasher",
    "chunk_digests",
    "tensor_digest",
    "tensor_hasher",
]

CHUNK: Final = MIB
CHUNK_DIGEST: Final = 8  # bytes of one chunk's xxh3_64, big-endian
TENSOR_DIGEST: Final = 32  # bytes of a tensor's blake3


def tensor_digest(view: memoryview | bytes) -> bytes:
    """Return the blake3 digest (32 bytes) of a tensor's bytes."""
    return _digest_of_zeros(len(view)) if is_zeros(view) else blake3(view).digest()


class TensorHasher(Protocol):
    """Makes a tensor's digest from its bytes in order, however they are cut."""

    def update(self, data: memoryview | bytes, /) -> object:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


def tensor_hasher() -> TensorHasher:
    """Return what makes the same digest as ``tensor_digest``, piece by piece."""
    return _Hasher()


def chunk_digests(view: memoryview | bytes, chunk: int = CHUNK) -> bytes:
    """Return the xxh3_64 of every chunk, eight bytes each, one after the other."""
    if is_zeros(view):
        return _chunks_of_zeros(len(view), chunk)
    starts = range(0, len(view), chunk)
    return b"".join(xxhash.xxh3_64_digest(view[at : at + chunk]) for at in starts)


class _Hasher:
    """Counts leading pieces of the zero page, whose digest is known, and hashes all others."""

    __slots__ = ("_blake", "_zeros")

    def __init__(self) -> None:
        self._blake: blake3 | None = None
        self._zeros = 0

    def update(self, data: memoryview | bytes, /) -> None:
        if self._blake is None:
            if is_zeros(data):
                self._zeros += len(data)
                return
            self._blake = blake3(zeros(self._zeros))
        self._blake.update(data)

    def digest(self) -> bytes:
        return _digest_of_zeros(self._zeros) if self._blake is None else self._blake.digest()


@lru_cache(maxsize=256)
def _digest_of_zeros(nbytes: int) -> bytes:
    return blake3(zeros(nbytes)).digest()


@lru_cache(maxsize=256)
def _chunks_of_zeros(nbytes: int, chunk: int) -> bytes:
    sizes = (min(chunk, nbytes - at) for at in range(0, nbytes, chunk))
    return b"".join(xxhash.xxh3_64_digest(zeros(size)) for size in sizes)


class DigestBuilder:
    """Both digests of bytes that come in pieces, however they are cut."""

    __slots__ = ("_blake", "_chunk", "_filled", "_finished", "_xxh")

    def __init__(self, chunk: int = CHUNK) -> None:
        self._blake = blake3()
        self._xxh = xxhash.xxh3_64()
        self._chunk = chunk
        self._filled = 0
        self._finished = bytearray()

    def update(self, piece: memoryview | bytes) -> None:
        """Take the next bytes."""
        self._blake.update(piece)
        at = 0
        while at < len(piece):
            part = piece[at : at + self._chunk - self._filled]
            self._xxh.update(part)
            at += len(part)
            self._filled += len(part)
            if self._filled == self._chunk:
                self._finished += self._xxh.digest()
                self._xxh.reset()
                self._filled = 0

    def digest(self) -> bytes:
        """Return the blake3 digest of all bytes so far."""
        return self._blake.digest()

    def chunks(self) -> bytes:
        """Return the xxh3_64 of every chunk so far, the last one possibly short."""
        return bytes(self._finished) + (self._xxh.digest() if self._filled else b"")
