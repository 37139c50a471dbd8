"""Digests do not depend on how the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import blake3
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from flare_async.transfer.digest import CHUNK_DIGEST, DigestBuilder, chunk_digests, tensor_digest


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 64))
def test_pieces_give_the_digests_of_the_whole(data, cuts, chunk):
    """Chunk boundaries may fall anywhere in a piece."""
    builder = DigestBuilder(chunk)
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    for start, end in pairwise(bounds):
        builder.update(memoryview(data)[start:end])
    assert builder.digest() == tensor_digest(data)
    assert builder.chunks() == chunk_digests(memoryview(data), chunk)


def test_digests_are_the_published_ones():
    """Other implementations can check them."""
    assert tensor_digest(b"abc") == blake3.blake3(b"abc").digest()
    assert chunk_digests(b"abcd", 3) == b"".join(
        xxhash.xxh3_64_intdigest(part).to_bytes(CHUNK_DIGEST, "big") for part in (b"abc", b"d")
    )
