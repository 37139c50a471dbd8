"""Where files come from and go to: what is no file, what was there, what changes meanwhile."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from flare_async.errors import ChannelReset, TransferError, WorkspaceError
from flare_async.limits import MIB, Limits
from flare_async.testing import cancel_everywhere
from flare_async.transfer import file_source, new_file
from flare_async.transfer.content import ContentCache
from flare_async.transfer.downloader import settled
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.file_source import FileSource
from flare_async.transfer.files import read_file
from flare_async.transfer.new_file import NewFile
from flare_async.transfer.spec import TensorSpec
from tests.transfer.pulling import big, many, pulling, real_links, run, same, sim_links

NO_FILES = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda place: place.symlink_to("/dev/zero"),
}
BYTES = TensorSpec("bytes", "U8", (3,))


def received(place, data=b"new"):
    """Receive three bytes into a plain file."""
    sink = FileSink(place, plain=True)
    try:
        sink.begin([BYTES])
        sink.write("bytes", 0, memoryview(data))
        sink.settle()
        sink.finish()
    finally:
        sink.discard()


def names(folder):
    """Return what is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_neither_offered_nor_read(tmp_path, make):
    """Opening a pipe would wait for its writer for ever, in a thread that nothing ends."""
    place = tmp_path / "place"
    make(place)
    with pytest.raises(WorkspaceError, match="no regular file"):
        FileSource(place, plain_as="bytes")
    with pytest.raises(WorkspaceError, match="no regular file"):
        read_file(place)


@pytest.mark.parametrize("place", [".", "..", "/", "folder"])
def test_a_folder_is_refused_before_anything_is_received(tmp_path, monkeypatch, place):
    """And not when all of it is here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TransferError, match="s a directory"):
        FileSink(place).begin([BYTES])
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("nameless", [True, False])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path, monkeypatch, nameless):
    """The name that a file has before is no longer than that."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    place = tmp_path / ("x" * 255)
    received(place)
    assert (names(tmp_path), place.read_bytes()) == ([place.name], b"new")


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_private_file_stays_private(tmp_path, monkeypatch, mode, nameless):
    """Its content is new, who may read it is not."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    place = tmp_path / "place"
    place.write_bytes(b"old")
    place.chmod(mode)
    received(place)
    assert (stat.S_IMODE(place.stat().st_mode), place.read_bytes()) == (mode, b"new")


def test_a_link_is_replaced_and_what_it_names_is_left_alone(tmp_path):
    """Nobody can make a download write somewhere else."""
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "place").symlink_to(tmp_path / "other")
    received(tmp_path / "place")
    assert not (tmp_path / "place").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"old"
    assert (tmp_path / "place").read_bytes() == b"new"


@pytest.mark.parametrize("count", [1, 2000])
def test_an_absurd_length_is_one_typed_error(tmp_path, count):
    """Also one beyond the numbers that the system has for lengths."""
    specs = [TensorSpec.checked(f"w{number}", "U8", [2**53]) for number in range(count)]
    sink = FileSink(tmp_path / "place")
    with suppress(TransferError):  # a file system may know the shorter one
        sink.begin(specs)
    sink.discard()
    assert names(tmp_path) == []


def test_a_sink_does_not_finish_without_its_file(tmp_path):
    """Whoever forgets to settle is told."""
    sink = FileSink(tmp_path / "place", plain=True)
    sink.begin([BYTES])
    sink.write("bytes", 0, memoryview(b"new"))
    with pytest.raises(TransferError, match="not in its place"):
        sink.finish()
    sink.settle()
    sink.finish()
    assert names(tmp_path) == ["place"]


def test_a_file_that_is_cut_off_while_it_is_written_is_an_error(tmp_path, monkeypatch):
    """It has a name where nameless files are not known: reading it must not wait for its bytes."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    file = NewFile(tmp_path / "place", 10)
    os.truncate(next(tmp_path.iterdir()), 4)
    with pytest.raises(TransferError, match="ends 6 bytes too early"):
        file.read(0, 10)
    file.close()


def test_a_file_that_changes_while_it_is_read_is_not_served(tmp_path):
    """Of the same length: half of each would have a digest that fits."""
    place = tmp_path / "place"
    place.write_bytes(bytes(8 * MIB))

    class Changing(FileSource):
        def piece(self, name, start, nbytes):
            if start == 4 * MIB:
                place.write_bytes(b"b" * 8 * MIB)
                os.utime(place, (1, 1))
            return super().piece(name, start, nbytes)

    async def main():
        async with pulling(real_links("tcp")) as world:
            source = Changing(place, plain_as="bytes")
            with source, pytest.raises(ChannelReset, match="the source failed"):
                await world.fetch(world.shelf.put(source).ref)

    run(main)


def test_a_file_that_is_closed_while_a_thread_reads_is_read_to_the_end(tmp_path, monkeypatch):
    """The thread never meets another file that was opened meanwhile under the same number."""
    for name in ("mine", "other"):
        (tmp_path / name).write_text(name, "ascii")
    source, opened, read = FileSource(tmp_path / "mine", plain_as="x"), [], os.pread

    def late(number, nbytes, at):
        source.close()
        opened.append((tmp_path / "other").open("rb"))
        return read(number, nbytes, at)

    monkeypatch.setattr(file_source.os, "pread", late)
    assert source.piece("x", 0, 4) == b"mine"
    with pytest.raises(TransferError, match="is closed"):
        source.piece("x", 0, 4)
    opened[0].close()


def test_a_file_is_not_closed_under_the_thread_that_writes_it_out(tmp_path, monkeypatch):
    """Also if it is asyncio itself that cancels the task."""
    going, go, sync = threading.Event(), threading.Event(), os.fsync

    def slow(number):
        going.set()
        assert go.wait(10)
        sync(number)

    monkeypatch.setattr(new_file.os, "fsync", slow)
    sink = FileSink(tmp_path / "place", plain=True)
    sink.begin([BYTES])
    sink.write("bytes", 0, memoryview(b"new"))

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(settled(sink))
            await asyncio.to_thread(going.wait, 10)
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            go.set()
        return task.cancelled()

    assert run(main)
    sink.discard()
    assert names(tmp_path) == ["place"]


def test_a_fetch_into_a_file_can_be_cancelled_anywhere(tmp_path):
    """No descriptor and no half of a file is left, whoever cancels and when."""
    place = tmp_path / "place"

    @asynccontextmanager
    async def a_world():
        place.unlink(missing_ok=True)
        async with pulling(sim_links()) as world, world.shelf.offer(many(5)) as offer:
            yield world, offer

    async def fetch(state):
        world, offer = state
        await world.downloader.fetch(world.pair.here, offer.ref, FileSink(place))

    def check(_state):
        assert names(tmp_path) in ([], ["place"])
        assert not place.exists() or same(read_file(place), ordered)

    sink = FileSink(tmp_path / "ordered")
    ordered = stored(sink, many(5))
    assert cancel_everywhere(fetch, given=a_world, check=check).cancelled > 5


def stored(sink, tensors):
    """Write tensors with a sink; return what is read from its file, which is removed."""
    sink.begin(tensors.specs, tensors.aliases)
    for name, view in tensors.items():
        sink.adopt(name, view)
    sink.settle()
    sink.finish()
    found = read_file(sink.path)
    Path(sink.path).unlink()
    return found


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
def test_a_disk_is_given_no_tensor_at_once(tmp_path, scheme):
    """What comes by reference, or is here already, is written a window at a time."""
    writes = []

    class Watched(FileSink):
        def adopt(self, name, view):
            raise AssertionError(f"{view.nbytes} bytes at once")

        def write(self, name, offset, data):
            writes.append(data.nbytes)
            super().write(name, offset, data)

    async def main():
        async with pulling(real_links(scheme)) as world:
            known, ref = ContentCache(), world.shelf.put(big(9)).ref
            if scheme == "tcp":
                known.keep(await world.fetch(ref), world.shelf._offers[ref.key].digests)
            sink = Watched(tmp_path / "place")
            report = await world.downloader.fetch(world.pair.here, ref, sink, known=known)
            return report.adopted_bytes

    assert run(main) == 9 * MIB
    assert same(read_file(tmp_path / "place"), big(9))
    assert max(writes) <= Limits().window_bytes
