"""A model that is received straight into a file, and a result that is read out of one."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError, ResourceLimit, TransferError
from flare_async.jobs.spawners.platform import MemoryFile
from flare_async.jobs.trainers.shared import (
    Handed,
    SharedSource,
    is_sealed,
    new_file,
    own_copy,
    seal,
    view_of,
)
from flare_async.jobs.trainers.sink import SharedSink
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import adopt, fill, numbers

SHARED = numbers(3, 9)
MODEL = TensorSet.from_params(
    {"w": numbers(1, (5, 7)), "tied": SHARED, "e": np.zeros((0, 2)), "tied2": SHARED}
)
EXPECTED = {name: bytes(view) for name, view in MODEL.items()}


@pytest.mark.parametrize("give", [fill, adopt])
def test_what_was_written_is_what_is_read(give):
    """Through the set, and through the source that never maps it."""
    sink = SharedSink()
    give(sink, MODEL)
    source = sink.tensors.source()
    assert {name: bytes(view) for name, view in sink.tensors.items()} == EXPECTED
    assert {name: source.piece(name, 0, 1 << 20) for name in EXPECTED} == EXPECTED
    assert {name: b"".join(map(bytes, source.chunks(name))) for name in EXPECTED} == EXPECTED


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(14)), st.sets(st.integers(0, 13)))
def test_pieces_come_in_any_order_and_some_again(order, rejected):
    """140 bytes in pieces of ten, some by lease and some with memory of their own."""
    sink = SharedSink()
    sink.begin(MODEL.specs, MODEL.aliases)
    for at in order:
        put(sink, at, b"?" * 10 if at in rejected else EXPECTED["w"][10 * at : 10 * at + 10])
    for at in rejected:
        sink.reject("w", 10 * at, 10)
        put(sink, at, EXPECTED["w"][10 * at : 10 * at + 10])
    sink.write("tied", 0, memoryview(EXPECTED["tied"]))
    sink.finish()
    assert {name: bytes(view) for name, view in sink.tensors.items()} == EXPECTED


def put(sink, at, part):
    """Let ten bytes land and look at them again."""
    if at % 2:
        sink.write("w", 10 * at, memoryview(part))
    else:
        sink.destination("w", 10 * at, 10)[:] = part
        sink.landed("w", 10 * at, 10)
    assert bytes(sink.read("w", 10 * at, 10)) == part


def test_a_model_that_is_too_large_is_refused_before_memory_is_taken():
    """A peer says how large its tensors are."""
    with pytest.raises(ResourceLimit):
        SharedSink(memory_bytes=100).begin(MODEL.specs, MODEL.aliases)


def test_the_rules_of_sinks_hold():
    """Nothing lands where nothing was asked for; nothing is there before the end, or after it."""
    sink = SharedSink()
    sink.begin(MODEL.specs, MODEL.aliases)
    with pytest.raises(TransferError):
        sink.landed("w", 0, 4)
    with pytest.raises(TransferError):
        sink.read("w", 0, 4)
    with pytest.raises(TransferError):
        sink.finish()
    with pytest.raises(TransferError):
        sink.tensors  # noqa: B018 - reading it is the test
    sink.discard()
    with pytest.raises(TransferError):
        sink.destination("w", 0, 4)


def test_a_trainer_can_write_to_its_model_but_not_cut_it_short():
    """The client's mapping of it stays whole."""
    sink = SharedSink()
    fill(sink, MODEL)
    file = sink.tensors.file
    view_of(file, 64, private=False)[0] = 255
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(file.fileno(), 1)
    assert os.pread(file.fileno(), 1, 0) == b"\xff"
    assert not is_sealed(file)


def test_a_private_view_leaves_the_file_as_it_is():
    """A page becomes the writer's own when it is written to."""
    file = new_file(8192)
    view_of(file, 8192, private=True)[0] = 255
    assert os.pread(file.fileno(), 1, 0) == b"\0"


def test_a_file_without_seals_is_copied():
    """Systems without memfd have none."""
    file = MemoryFile(100, create=None)
    os.pwrite(file.fileno(), b"abc", 0)
    seal(file, content=True)
    assert not is_sealed(file)
    copy = own_copy(file, 100)
    os.pwrite(file.fileno(), b"xyz", 0)
    assert os.pread(copy.fileno(), 3, 0) == b"abc"


def test_what_is_no_file_of_that_size_is_refused():
    """A trainer hands in whatever it likes."""
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(RemoteProtocolError):
        Handed(reading).check(0)
    file = new_file(64)
    with pytest.raises(RemoteProtocolError):
        Handed(os.dup(file.fileno())).check(65)


def test_a_source_refuses_what_it_has_not():
    """A range outside of a tensor, another name, a file that is too short."""
    file = new_file(64)
    source = SharedSource(file, MODEL.specs, MODEL.aliases)
    for name, start in (("x", 0), ("w", 141), ("w", -1)):
        with pytest.raises(TransferError):
            source.piece(name, start, 1)
    with pytest.raises(TransferError, match="bytes too early"):
        source.piece("w", 0, 140)
