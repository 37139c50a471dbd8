"""Budget, spool and what is given back."""

from __future__ import annotations

import os

import numpy as np
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flare_async.errors import TransferError
from flare_async.limits import MIB
from flare_async.transfer import spool as spool_module
from flare_async.transfer.coverage import Coverage
from flare_async.transfer.spool import BUFFER, Spool, file_system_of, pread_into
from flare_async.transfer.staging import StagedUpdate, StagingArea
from tests.transfer.helpers import adopt, fill, params

LARGE = params(w=np.arange(3 * MIB // 8 + 5, dtype=np.float64))


def test_budget_and_file_space_are_reused(tmp_path):
    """The spool grows no further than the updates that wait at once."""
    area = StagingArea(0, folder=tmp_path)
    for _ in range(5):
        update = StagedUpdate(area)
        fill(update, LARGE, piece=MIB)
        update.discard()
    assert area.spool().nbytes == LARGE.nbytes
    assert area.spilled_bytes == 5 * LARGE.nbytes
    area.close()


def test_memory_comes_first_and_the_rest_is_spilled():
    """The decision is a tensor's, when its first bytes are asked for."""
    area = StagingArea(LARGE.nbytes)
    updates = [StagedUpdate(area) for _ in range(2)]
    for update in updates:
        fill(update, LARGE, piece=MIB)
    assert (area.memory_bytes, area.spilled_bytes) == (LARGE.nbytes, LARGE.nbytes)
    read = [b"".join(map(bytes, update.chunks("w", 8))) for update in updates]
    assert read == [bytes(LARGE["w"])[8:]] * 2
    for update in updates:
        update.discard()
    assert area.memory_bytes == 0
    area.close()


def test_adopting_gives_reserved_memory_back():
    """A pull that began over one link may end over another."""
    area = StagingArea(MIB)
    update = StagedUpdate(area)
    small = params(w=np.ones(4))
    update.begin(small.specs)
    update.destination("w", 0, 8)
    update.adopt("w", small["w"])
    assert (area.memory_bytes, area.referenced_bytes) == (0, 32)


def test_an_overlapping_request_shares_the_memory_of_an_older_one():
    """After a lost link the ranges may be cut differently; what was written is not lost."""
    area = StagingArea(0)
    update = StagedUpdate(area)
    small = params(w=np.arange(4, dtype=np.uint8))
    update.begin(small.specs)
    update.destination("w", 1, 2)[:] = b"\1\2"
    update.destination("w", 0, 4)[:] = b"\0"
    assert update.destination("w", 2, 2) == b"\2"
    update.destination("w", 3, 1)[:] = b"\3"
    with pytest.raises(TransferError, match="nowhere"):
        update.landed("w", 0, 2)
    for at, nbytes in ((1, 2), (3, 1), (0, 1)):
        update.landed("w", at, nbytes)
    update.finish()
    assert b"".join(map(bytes, update.chunks("w"))) == bytes(small["w"])
    area.close()


def test_an_update_that_is_discarded_while_it_is_read_says_so():
    """Its extent may already belong to another one."""
    area = StagingArea(0)
    update = StagedUpdate(area)
    fill(update, LARGE, piece=MIB)
    chunks = update.chunks("w")
    next(chunks)
    update.discard()
    with pytest.raises(TransferError, match="discarded"):
        next(chunks)
    area.close()


def test_two_readers_have_a_buffer_each():
    """Tied tensors are compared chunk by chunk."""
    area = StagingArea(0)
    update = StagedUpdate(area)
    fill(update, LARGE, piece=MIB)
    first, second = update.chunks("w"), update.chunks("w", MIB)
    assert bytes(next(first)) != bytes(next(second))
    first.close()
    second.close()
    area.close()


def test_buffers_are_pooled():
    """Spilling allocates no memory in the long run."""
    spool = Spool()
    one = spool.take_buffer(10)
    spool.give_buffer(one)
    assert spool.take_buffer(BUFFER) is one
    assert spool.take_buffer(BUFFER + 1).nbytes == BUFFER + 1
    spool.close()


def test_the_file_has_no_name(tmp_path):
    """It goes with the process, whatever ends it."""
    spool = Spool(tmp_path)
    spool.write(spool.allocate(5), memoryview(b"hello"))
    assert list(tmp_path.iterdir()) == []
    spool.close()
    spool.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    """At the first spill."""
    with pytest.raises(TransferError, match="absent"):
        Spool(tmp_path / "absent")


def test_a_disk_error_is_typed():
    """Full disks are an ordinary event."""
    spool = Spool()
    spool.close()
    spool._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115
    with pytest.raises(TransferError, match="cannot be written"):
        spool.write(0, memoryview(b"x"))
    with pytest.raises(TransferError, match="cannot be read"):
        spool.read(0, memoryview(bytearray(1)))
    spool.close()


def test_reading_works_without_preadv(tmp_path):
    """Some systems have only pread."""
    place = tmp_path / "file"
    place.write_bytes(b"train")
    into = memoryview(bytearray(3))
    with place.open("rb") as file:
        assert pread_into(file.fileno(), into, 1) == 3
        assert pread_into(file.fileno(), into, 4) == 1
    assert bytes(into) == b"nai"


def test_a_spool_in_memory_is_warned_of(tmp_path, monkeypatch):
    """On tmpfs it saves nothing."""
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /tmp rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr(spool_module, "_MOUNTS", table)
    with structlog.testing.capture_logs() as logs:
        Spool(tmp_path).close()
    assert [entry["event"] for entry in logs] == ["spool_is_memory"]


def test_an_unknown_file_system_is_not_warned_of(tmp_path, monkeypatch):
    """Outside Linux there is no table."""
    monkeypatch.setattr(spool_module, "_MOUNTS", tmp_path / "absent")
    assert file_system_of(tmp_path) is None
    monkeypatch.undo()
    assert file_system_of(tmp_path / "absent") is None


def test_coverage_merges_ranges():
    """Between two neighbours, left, right and alone."""
    coverage = Coverage(10)
    for start, end in [(2, 4), (6, 8), (4, 6), (0, 1), (8, 10), (5, 5)]:
        coverage.add(start, end)
    assert (coverage.covered, coverage.contiguous, coverage.complete) == (9, 1, False)
    assert coverage.overlaps(0, 2)
    assert not coverage.overlaps(1, 2)
    coverage.add(1, 2)
    assert (coverage.contiguous, coverage.complete) == (10, True)


def test_adopted_updates_are_read_as_they_are():
    """By reference, from any start."""
    update = StagedUpdate(StagingArea(0))
    adopt(update, LARGE)
    assert update.whole
    assert next(iter(update.chunks("w"))) == LARGE["w"][:BUFFER]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=12))
@example([(True, 0, 2), (False, 1, 1), (True, 0, 2)])
def test_coverage_forgets_what_it_is_told_to(steps):
    """It agrees with a set of bytes, whatever was added and removed."""
    coverage, expected = Coverage(40), set()
    for add, *bounds in steps:
        start, end = sorted(bounds)
        wanted = set(range(start, end))
        if not add:
            coverage.remove(start, end)
            expected -= wanted
        elif not coverage.overlaps(start, end):
            coverage.add(start, end)
            expected |= wanted
        assert coverage.covered == len(expected)
        assert coverage.covers(start, end) == (wanted <= expected)
