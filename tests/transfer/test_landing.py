"""Bytes of one tensor land whole, however streams begin anew and frames are cut meanwhile."""

from __future__ import annotations

import random

import pytest

from flare_async.limits import KIB
from flare_async.transfer.buffers import BUFFER
from flare_async.transfer.digest import tensor_digest, tensor_hasher
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.landing import Landing
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.spec import TensorSpec

SIZE = 2 * BUFFER + 12_345
DATA = random.Random(5).randbytes(SIZE)


def opened(sink, size=SIZE):
    """Begin a sink of one tensor; return how its bytes land, and what hashes them."""
    sink.begin([TensorSpec("w", "U8", (size,))])
    hasher = tensor_hasher()
    landing = Landing(sink, "w", 0, size, hasher)
    landing.begin()
    return landing, hasher


class Wire:
    """Brings frames; some are not told of for a while, some are cut off in the middle."""

    def __init__(self, landing, seed):
        self.landing, self.dice = landing, random.Random(seed)
        self.base = 0  # where the stream began

    def stream(self):
        """Bring one stream until it ends or is given up; a new link goes on with the same one."""
        self.landing.begin()
        self.base = self.landing.have
        while self.landing.have < SIZE and self.dice.random() > 0.05:
            self.frame(min(self.dice.randrange(1, BUFFER), SIZE - self.landing.have))

    def frame(self, length):
        """Bring one frame, or a part of it."""
        start = at = self.landing.have - self.base
        told = at
        while at < start + length and self.dice.random() > 0.05:
            view = self.landing.room(at, start + length - at)
            if view is None:
                self.tell(told, at)
                end = at + min(64 * KIB, start + length - at)
                self.landing.take(at, DATA[self.base + at : self.base + end])
                told = at = end
                continue
            part = view[: self.dice.randrange(1, len(view) + 1)]
            part[:] = DATA[self.base + at : self.base + at + len(part)]
            at += len(part)
            if self.dice.random() < 0.5:
                self.tell(told, at)
                told = at
        if self.dice.random() < 0.8:  # else its link is lost, and nobody is told
            self.tell(told, at)

    def tell(self, start, end):
        """Tell of what was written."""
        if end > start:
            self.landing.landed(start, end - start)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("leased", [None, 0, 14, 15])
def test_what_lands_is_what_was_sent(tmp_path, seed, leased):
    """In memory and in a file, with all buffers, with one, with none; every lease is given back."""
    sink = MemorySink() if leased is None else FileSink(tmp_path / "place", plain=True)
    for _ in range(leased or 0):
        sink._pool.lease()
    landing, hasher = opened(sink)
    wire = Wire(landing, seed)
    while landing.have < SIZE:
        wire.stream()
    assert hasher.digest() == tensor_digest(DATA)
    if leased is None:
        assert sink.read("w", 0, SIZE) == DATA
        return
    assert sink._pool.leased == leased
    sink.settle()
    sink.finish()
    assert (tmp_path / "place").read_bytes() == DATA


def test_a_frame_that_crosses_the_end_of_a_lease_takes_none_of_it_away(tmp_path):
    """A stream begins anew within a lease; one frame ends in it, and the next one goes beyond."""
    sink = FileSink(tmp_path / "place", plain=True)
    landing, hasher = opened(sink, 200)
    landing.room(0, 100)[:50] = DATA[:50]
    landing.landed(0, 50)
    landing.begin()
    landing.room(0, 20)[:] = DATA[50:70]
    beyond = landing.room(20, 130)  # before anybody was told of the frame before
    assert len(beyond) == 30
    beyond[:] = DATA[70:100]
    landing.room(50, 100)[:] = DATA[100:200]
    landing.landed(0, 20)
    landing.landed(20, 130)
    assert hasher.digest() == tensor_digest(DATA[:200])
    sink.settle()
    sink.finish()
    assert (tmp_path / "place").read_bytes() == DATA[:200]
