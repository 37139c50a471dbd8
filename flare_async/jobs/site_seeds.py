"""Seeds of the global generators, for sites that are asked one after the other."""

from __future__ import annotations

from typing import Final

import numpy as np

from flare_async.jobs.seed_words import seed_words
from flare_async.jobs.site import Site, SiteInfo, entropy_words

__all__ = ["SiteSeeds"]

STREAM: Final = 2  # of ``Site.seed_sequence``
COUNT: Final = 3  # seeds: for Python, NumPy and torch
ROW: Final = 256  # sites whose seeds are made together
LEAST: Final = 64  # for fewer it takes longer than one by one
NEAR: Final = 4  # that far behind the last one, the next ones will probably be asked for too


class SiteSeeds:
    """Makes the seeds of single sites, and of a row of them where neighbours come in turn."""

    __slots__ = ("_first", "_last", "_round", "_row")

    def __init__(self) -> None:
        self._round = (-1, -1)  # the run's seed, and the round
        self._last = -1
        self._first = 0
        self._row: list[list[int]] = []  # of the sites from the first one on

    def of(self, site: Site) -> list[int]:
        """Return three seeds of 64 bits, which depend on the run's seed, round and site only."""
        info = site.info
        index, asked = info.index, (info.seed, info.round_number)
        if asked != self._round:
            self._round, self._row = asked, []
        step, self._last = index - self._last, index
        place = index - self._first
        if 0 <= place < len(self._row):
            return self._row[place]
        if 0 < step <= NEAR and info.num_sites - index >= LEAST and info.num_sites < 2**32:
            self._first, self._row = index, _row(info)
            return self._row[0]
        found: list[int] = site.seed_sequence(STREAM).generate_state(COUNT, np.uint64).tolist()
        return found


def _row(info: SiteInfo) -> list[list[int]]:
    size = min(ROW, info.num_sites - info.index)
    words = [np.full(size, word, np.uint32) for word in entropy_words(info, STREAM)]
    words[-2] = np.arange(info.index, info.index + size, dtype=np.uint32)
    found: list[list[int]] = seed_words(words, COUNT).tolist()
    return found
