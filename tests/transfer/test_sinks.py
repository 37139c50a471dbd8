"""The contract of sinks and sources: in memory, behind a reducer, and of a file."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ResourceLimit, TensorFormatError, TransferError
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.file_source import FileSource
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.source import MemorySource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate, StagingArea
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import adopt, fill, numbers, params

SHARED = numbers(3, 9)
MODEL = TensorSet.from_params(
    {"w": numbers(1, (5, 7)), "tied": SHARED, "e": np.zeros((0, 2)), "tied2": SHARED}
)


class SettledSink(FileSink):
    """A file that is put in its place as a downloader does it, and read as it is offered."""

    def finish(self):
        """Settle and end."""
        self.settle()
        super().finish()

    def chunks(self, name, start=0):
        """Yield what is in the file."""
        with FileSource(self.path) as source:
            return iter([bytes(chunk) for chunk in source.chunks(name, start)])


KINDS = {
    "memory": MemorySink,
    "staged": lambda: StagedUpdate(StagingArea(1 << 20)),
    "spooled": lambda: StagedUpdate(StagingArea(0)),
    "file": lambda: SettledSink(Path(tempfile.mkdtemp()) / "model"),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def sink(request):
    """Make one sink of each kind."""
    made = request.param()
    yield made
    close(made)


def close(sink):
    """End a sink and what is behind it."""
    sink.discard()
    if isinstance(sink, SettledSink):
        shutil.rmtree(sink.path.parent)
    if isinstance(sink, StagedUpdate):
        sink._area.close()


def content(sink):
    """Return what a finished sink holds, read from every start."""
    source = MemorySource(sink.tensors) if isinstance(sink, MemorySink) else sink
    return {spec.name: b"".join(map(bytes, source.chunks(spec.name))) for spec in source.specs}


EXPECTED = {name: bytes(view) for name, view in MODEL.items()}


@pytest.mark.parametrize("give", [fill, adopt])
def test_what_was_written_is_what_is_read(sink, give):
    """Tied tensors come once and are read under both names."""
    give(sink, MODEL)
    assert content(sink) == EXPECTED


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_pieces_may_come_in_any_order_and_size(kind, data):
    """Several tensors at once, ranges that are taken again before they land."""
    cuts = st.sets(st.integers(1, 139), max_size=5)
    pieces = []
    for name in ("w", "tied"):
        bounds = sorted(
            {0, MODEL[name].nbytes, *(c for c in data.draw(cuts) if c < MODEL[name].nbytes)}
        )
        pieces += [(name, a, b) for a, b in pairwise(bounds)]
    again = data.draw(st.permutations([piece for piece in pieces for _ in range(2)]))
    last = {piece: at for at, piece in enumerate(again)}
    sink = KINDS[kind]()
    sink.begin(MODEL.specs, MODEL.aliases)
    for at, (name, start, end) in enumerate(again):
        if last[name, start, end] != at:
            sink.destination(name, start, end - start)
            continue
        sink.destination(name, start, end - start)[:] = MODEL[name][start:end]
        sink.landed(name, start, end - start)
    sink.finish()
    assert content(sink) == EXPECTED
    close(sink)


def test_a_range_may_land_in_parts(sink):
    """One destination for a tensor, noted frame by frame."""
    sink.begin(MODEL.specs, MODEL.aliases)
    for name in ("w", "tied"):
        size = MODEL[name].nbytes
        sink.destination(name, 0, size)[:] = MODEL[name]
        for at in range(0, size, 50):
            sink.landed(name, at, min(50, size - at))
    sink.finish()
    assert content(sink) == EXPECTED


def test_missing_bytes_are_an_error_at_finish(sink):
    """The message says how many of which tensor."""
    sink.begin(MODEL.specs, MODEL.aliases)
    sink.destination("w", 0, 100)
    sink.landed("w", 0, 100)
    with pytest.raises(TransferError, match="'w': 100 of 140 bytes"):
        sink.finish()


@pytest.mark.parametrize(
    ("name", "offset", "nbytes", "text"),
    [
        ("x", 0, 1, "not expected"),
        ("tied2", 0, 1, "not expected"),
        ("w", 100, 41, "beyond its 140"),
        ("w", -1, 2, "beyond its 140"),
        ("w", 10, -5, "beyond its 140"),
        ("w", 10, 11, "landed already"),
    ],
)
def test_a_range_that_is_not_missing_is_refused(sink, name, offset, nbytes, text):
    """Unknown, an alias, beyond the end, or landed: asked for or noted."""
    sink.begin(MODEL.specs, MODEL.aliases)
    sink.destination("w", 20, 10)
    sink.landed("w", 20, 10)
    with pytest.raises(TransferError, match=text):
        sink.destination(name, offset, nbytes)
    with pytest.raises(TransferError, match=text):
        sink.landed(name, offset, nbytes)


def test_bytes_cannot_land_where_nobody_asked(sink):
    """Nothing was written there."""
    sink.begin(MODEL.specs, MODEL.aliases)
    with pytest.raises(TransferError, match="landed nowhere"):
        sink.landed("w", 0, 8)


def test_adopted_memory_must_be_the_whole_tensor(sink):
    """Another size, or a tensor that has begun to land."""
    sink.begin(MODEL.specs, MODEL.aliases)
    with pytest.raises(TransferError, match="of 140 bytes adopted"):
        sink.adopt("w", memoryview(bytes(139)))
    sink.destination("w", 0, 8)
    sink.landed("w", 0, 8)
    with pytest.raises(TransferError, match="landed already"):
        sink.adopt("w", memoryview(bytes(140)))


def test_a_sink_is_used_once(sink):
    """Begin twice, or anything after the end, is an error."""
    with pytest.raises(TransferError, match="new"):
        sink.destination("w", 0, 1)
    fill(sink, MODEL)
    with pytest.raises(TransferError, match="finished"):
        sink.begin(MODEL.specs)
    with pytest.raises(TransferError, match="finished"):
        sink.destination("w", 0, 1)
    sink.discard()
    sink.discard()
    with pytest.raises(TransferError, match="discarded"):
        sink.finish()


def test_a_peers_layout_is_checked(sink):
    """A name twice, or an alias of nothing."""
    spec = TensorSpec("w", "F32", (1,))
    with pytest.raises(TensorFormatError):
        sink.begin([spec, spec])
    with pytest.raises(TensorFormatError):
        sink.begin([spec], {"w": "x"})


def test_tensors_are_not_to_be_had_before_the_end():
    """A sink in use is never a live model."""
    sink = MemorySink()
    sink.begin(MODEL.specs, MODEL.aliases)
    with pytest.raises(TransferError, match="open has no tensors"):
        _ = sink.tensors
    sink.discard()
    with pytest.raises(TransferError, match="discarded has no tensors"):
        _ = sink.tensors


def test_adoption_shares_memory():
    """Over a memory link nothing is copied."""
    sink = MemorySink()
    adopt(sink, MODEL)
    assert sink.tensors.torch()["w"].data_ptr() == MODEL.torch()["w"].data_ptr()


def test_a_peer_cannot_ask_for_more_memory_than_allowed():
    """It says how large its tensors are; nothing is taken before they come."""
    sink = MemorySink(memory_bytes=1000)
    with pytest.raises(ResourceLimit, match="memory_bytes: 9007199254740992 needed, 1000 allowed"):
        sink.begin([TensorSpec("w", "U8", (2**53,))])


@pytest.mark.parametrize(("name", "start"), [("x", 0), ("w", -1), ("w", 141)])
def test_a_source_reads_from_within_a_tensor(sink, name, start):
    """A peer chooses the offset."""
    fill(sink, MODEL)
    source = MemorySource(sink.tensors) if isinstance(sink, MemorySink) else sink
    with pytest.raises(TransferError):
        source.chunks(name, start)
    assert b"".join(map(bytes, source.chunks("w", 133))) == bytes(MODEL["w"])[133:]
    assert list(source.chunks("w", 140)) == []


def test_a_memory_source_cuts_views():
    """The chunks are the memory itself."""
    source = MemorySource(params(w=np.arange(5, dtype=np.uint8)), chunk=2)
    assert [bytes(chunk) for chunk in source.chunks("w", 1)] == [b"\1\2", b"\3\4"]
    assert source.specs[0].name == "w"
