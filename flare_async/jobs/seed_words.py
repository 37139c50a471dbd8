"""The state of NumPy's ``SeedSequence`` for many seeds at once, bit for bit.

Making one takes as long as a small training. A round asks for those of one site after the other,
which differ in one word of their entropy: computed as arrays, a site's share is an eighth. The
algorithm is the one that NumPy promises not to change, as streams depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["seed_words"]

Words: TypeAlias = NDArray[np.uint32]

POOL: Final = 4
BITS: Final = 0xFFFFFFFF
ENTROPY_HASH: Final = (0x43B0D7E5, 0x931E8875)  # where its constants begin, and their factor
STATE_HASH: Final = (0x8B51F9DD, 0x58F38DED)
LEFT: Final = np.uint32(0xCA01F9DD)
RIGHT: Final = np.uint32(0x4973F715)
HALF: Final = np.uint32(16)


def seed_words(entropy: Sequence[Words], count: int) -> NDArray[np.uint64]:
    """Return ``SeedSequence(words).generate_state(count, np.uint64)``, a row for each seed.

    ``entropy`` has at least four arrays: the first words of all seeds, their second ones, and so
    on.
    """
    pool = _mixed(entropy)
    spread = _Hash(*STATE_HASH)
    state = [spread(pool[at % POOL]) for at in range(2 * count)]
    low, high = (np.stack(state[half::2], axis=1).astype(np.uint64) for half in (0, 1))
    return low | high << np.uint64(32)


def _mixed(entropy: Sequence[Words]) -> list[Words]:
    hashed = _Hash(*ENTROPY_HASH)
    pool = [hashed(words) for words in entropy[:POOL]]
    for source in range(POOL):
        for at in range(POOL):
            if at != source:
                pool[at] = _joined(pool[at], hashed(pool[source]))
    for words in entropy[POOL:]:
        for at in range(POOL):
            pool[at] = _joined(pool[at], hashed(words))
    return pool


def _joined(one: Words, other: Words) -> Words:
    found: Words = LEFT * one - RIGHT * other
    return found ^ (found >> HALF)


class _Hash:
    """Hashes words; each call has another constant."""

    def __init__(self, first: int, factor: int) -> None:
        self._constant = first
        self._factor = factor

    def __call__(self, words: Words) -> Words:
        mixed = words ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & BITS
        mixed = mixed * np.uint32(self._constant)
        return mixed ^ (mixed >> HALF)
