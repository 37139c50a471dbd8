"""Files larger than memory, offered and received: intact, whole or not at all, a MiB at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flare_async.errors import (
    ChannelReset,
    DigestMismatch,
    ResourceLimit,
    TensorFormatError,
    TransferError,
    WorkspaceError,
)
from flare_async.limits import MIB, Limits
from flare_async.testing import BitFlip
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.file_source import FileSource
from flare_async.transfer.files import file_chunks, read_file
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.source import StoredSource
from tests.transfer.helpers import fill
from tests.transfer.pulling import READER, big, pulling, real_links, run, same, sim_links, tied

SCHEMES = ("memory", "tcp")
STATUS = Path("/proc/self/status")


def written(path, tensors):
    """Write a safetensors file and return its path."""
    path.write_bytes(b"".join(map(bytes, file_chunks(tensors))))
    return path


def hollow(path, tensors):
    """Write a safetensors file of zeros, without using a disk for them; return its path."""
    size, header, at = 32 * MIB, {}, 0
    for number in range(tensors):
        bounds = [at, at := at + size]
        header[f"w{number}"] = {"dtype": "U8", "shape": [size], "data_offsets": bounds}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path


def names(folder):
    """Return what is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def resident_bytes():
    """Return anonymous and file pages of this process."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text("ascii").splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


class WatchedSink(FileSink):
    """Notes the most memory that this process had while ranges landed."""

    most = 0
    pieces = 0

    def landed(self, name, offset, nbytes):
        """Land and look, every sixteenth time."""
        super().landed(name, offset, nbytes)
        self.pieces += 1
        if self.pieces % 16 == 0:
            self.most = max(self.most, resident_bytes())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_becomes_the_same_file(scheme, tmp_path):
    """Ties included; and the safetensors library reads it."""
    source = written(tmp_path / "here", tied())

    async def main():
        async with pulling(real_links(scheme)) as world:
            with FileSource(source) as offered:
                async with world.shelf.offer(offered) as offer:
                    sink = FileSink(tmp_path / "there")
                    report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
                    return report.nbytes, offer.served[READER]

    assert run(main) == (600 * 4 + 7 * 8,) * 2
    assert same(read_file(tmp_path / "there"), read_file(source))
    assert set(load_file(tmp_path / "there")) == {"in", "bias"}
    assert names(tmp_path) == ["here", "there"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_and_memory_can_be_mixed(scheme, tmp_path):
    """A model in memory into a file, and from that file into memory."""
    offered, place = big(5), tmp_path / "model"

    async def main():
        async with pulling(real_links(scheme)) as world:
            async with world.shelf.offer(offered) as offer:
                await world.downloader.fetch(world.pair.here, offer.ref, FileSink(place))
            with FileSource(place) as source:
                return await world.fetch(world.shelf.put(source).ref)

    assert same(run(main), offered)


def test_any_file_can_be_sent_as_bytes(tmp_path):
    """As one tensor that the caller names; the other side writes the bytes alone."""
    (tmp_path / "here").write_bytes(os.urandom(3_000_000))

    async def main():
        async with pulling(real_links("tcp")) as world:
            with FileSource(tmp_path / "here", plain_as="bundle.zip") as source:
                offer = world.shelf.put(source)
                sink = FileSink(tmp_path / "there", plain=True)
                await world.downloader.fetch(world.pair.here, offer.ref, sink)
                return [spec.name for spec in sink.specs]

    assert run(main) == ["bundle.zip"]
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


@pytest.mark.slow
def test_a_large_file_takes_no_memory_at_either_end(tmp_path):
    """256 MiB over tcp: both ends together grow by less than 32 MiB, and each reads them once."""
    source, sink = hollow(tmp_path / "here", 8), WatchedSink(tmp_path / "there")

    async def main():
        async with pulling(real_links("tcp")) as world:
            with FileSource(source) as offered:
                offer = world.shelf.put(offered)
                before = resident_bytes()
                await world.downloader.fetch(world.pair.here, offer.ref, sink)
                return sink.most - before, offer.served[READER]

    growth, served = run(main)
    assert served == 256 * MIB
    assert growth < 32 * MIB, f"grew by {growth / MIB:.1f} MiB"
    assert sink._pool.most_leased <= 1
    assert (tmp_path / "there").stat().st_size > 256 * MIB


def test_damage_is_mended_in_the_file(sim, tmp_path):
    """The chunk is written again where it was."""

    async def main():
        flip = sim_links(faults=[BitFlip(2 * MIB, payload=True, direction="down")])
        async with pulling(flip) as world:
            offer, sink = world.shelf.put(big(4)), FileSink(tmp_path / "there")
            report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
            return report.repulled_chunks

    assert sim(main) == 1
    assert same(read_file(tmp_path / "there"), big(4))


def test_a_file_that_fails_leaves_the_old_one(sim, tmp_path):
    """The transfer is given up, the file under its name is what it was, and nothing is left."""
    place = tmp_path / "there"
    place.write_bytes(b"old")

    async def main():
        async with pulling(sim_links(), Limits(max_resends=0)) as world:
            offer = world.shelf.put(big(2), digests={"big": bytes(32)})
            with pytest.raises(DigestMismatch):
                await world.downloader.fetch(world.pair.here, offer.ref, FileSink(place))

    sim(main)
    assert place.read_bytes() == b"old"
    assert names(tmp_path) == ["there"]


def test_a_cancelled_fetch_leaves_no_file(sim, tmp_path):
    """In the middle of it."""

    async def main():
        async with pulling(sim_links(bandwidth=1e6)) as world:
            offer = world.shelf.put(big(4))
            with anyio.move_on_after(2):
                await world.downloader.fetch(
                    world.pair.here, offer.ref, FileSink(tmp_path / "there")
                )
            await world.pair.round_trip()
            return world.pulls()

    assert sim(main) == []
    assert names(tmp_path) == []


def test_a_full_disk_fails_its_fetch_and_no_other(sim, tmp_path):
    """The error names the file; the session goes on."""

    class Full(FileSink):
        def _write(self, name, offset, data):
            if offset >= MIB:
                raise TransferError(f"{self.path}: no space left")

    async def main():
        async with pulling(sim_links()) as world:
            offer = world.shelf.put(big(3))
            with pytest.raises(TransferError, match="no space left"):
                await world.downloader.fetch(world.pair.here, offer.ref, Full(tmp_path / "there"))
            await world.pair.round_trip()
            assert world.pulls() == []
            return same(await world.fetch(offer.ref), big(3))

    assert sim(main)
    assert names(tmp_path) == []


def test_a_file_that_shrinks_while_it_is_offered_resets_its_reader(sim, tmp_path):
    """The owner goes on."""
    place = written(tmp_path / "here", big(3))

    async def main():
        async with pulling(sim_links()) as world:
            with FileSource(place, plain_as="big") as source:
                offer = world.shelf.put(source)
                os.truncate(tmp_path / "here", MIB)
                with pytest.raises(ChannelReset, match="the source failed"):
                    await world.fetch(offer.ref)
            return world.pair.there.ended

    assert not sim(main)


def test_a_source_is_checked_when_it_is_opened(tmp_path):
    """Absent, no safetensors file, longer than its header says; a closed one can not be read."""
    with pytest.raises(WorkspaceError, match="absent"):
        FileSource(tmp_path / "absent")
    place = written(tmp_path / "file", tied())
    place.write_bytes(place.read_bytes() + b"x")
    with pytest.raises(TensorFormatError, match="which says 2456"):
        FileSource(place)
    source = FileSource(place, plain_as="bytes")
    assert (source.nbytes, isinstance(source, StoredSource)) == (place.stat().st_size, True)
    with pytest.raises(TransferError, match="no bytes from"):
        source.chunks("other")
    assert b"".join(map(bytes, source.chunks("bytes", 9))) == place.read_bytes()[9:]
    chunks = source.chunks("bytes")
    source.close()
    with pytest.raises(TransferError, match="cannot be read"):
        next(chunks)


def test_other_writers_files_are_offered_as_they_are(tmp_path):
    """Their order of tensors and their metadata do not matter."""
    place = tmp_path / "other.safetensors"
    save_file({"b": np.ones(3), "a": np.zeros(2, np.int8)}, place, {"format": "np"})
    with FileSource(place) as source:
        read = {s.name: b"".join(map(bytes, source.chunks(s.name))) for s in source.specs}
    assert read == {"a": bytes(2), "b": np.ones(3).tobytes()}


def test_a_peer_cannot_fill_the_disk(tmp_path):
    """It says how large its tensors are; nothing is made before that is checked."""
    sink = FileSink(tmp_path / "there", max_bytes=1000)
    with pytest.raises(ResourceLimit, match="max_bytes: 1048576 needed, 1000 allowed"):
        sink.begin(big(1).specs)
    plain = FileSink(tmp_path / "there", plain=True)
    with pytest.raises(TensorFormatError, match="3 tensors are no plain file"):
        plain.begin(tied().specs, tied().aliases)
    with pytest.raises(TransferError, match="cannot be made"):
        FileSink(tmp_path / "absent" / "there").begin(big(1).specs)
    assert names(tmp_path) == []


@pytest.mark.parametrize("nameless", [True, False])
def test_a_finished_file_stays(tmp_path, monkeypatch, nameless):
    """Discarding a sink afterwards is harmless, with and without nameless files."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (tmp_path / "there").write_bytes(b"old")
    sink, seen = FileSink(tmp_path / "there"), []
    finish = sink.finish
    sink.finish = lambda: (seen.append(len(names(tmp_path))), sink.settle(), finish())
    fill(sink, tied())
    sink.discard()
    assert same(read_file(tmp_path / "there"), tied())
    assert seen == [1 if nameless else 2]
    other = FileSink(tmp_path / "other")
    other.begin(tied().specs, tied().aliases)
    other.discard()
    assert names(tmp_path) == ["there"]


def test_a_verified_file_is_known_by_its_digests(tmp_path):
    """Whoever passes it on need not hash it again."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            offer = world.shelf.put(big(2))
            report = await world.downloader.fetch(world.pair.here, offer.ref, MemorySink())
            return report.digests

    assert run(main) == {"big": tensor_digest(big(2)["big"])}
