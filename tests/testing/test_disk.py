"""The simulated disk: what a crash keeps, what a flush promises, and how it fails."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import ConfigError, WorkspaceError
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.disk import SimDisk
from flare_async.testing.loop import run_sim

SEEDS = range(40)


def make_disk(seed: int = 1, **options) -> SimDisk:
    """Return a disk on the running loop."""
    return SimDisk(LoopClock(), SeededRandom(seed), **options)


def after_crash(use, **options) -> list[dict[str, bytes]]:
    """Return what each seed's crash leaves of what ``use(disk)`` did."""

    async def main(seed):
        disk = make_disk(seed, **options)
        await use(disk)
        disk.crash()
        return disk.files

    return [run_sim(lambda seed=seed: main(seed), seed=seed) for seed in SEEDS]


def test_a_crash_keeps_a_prefix_of_what_was_only_appended():
    """F21: the tail of a journal may be torn anywhere, and is never out of order."""

    async def use(disk):
        await disk.append("journal", b"abcd")
        await disk.sync("journal")
        await disk.append("journal", b"efgh")

    left = {files["journal"] for files in after_crash(use)}
    assert left <= {b"abcdefgh"[:count] for count in range(4, 9)}
    assert len(left) > 2


def test_nothing_follows_bytes_that_a_crash_has_lost():
    """An append that is under way leaves no hole: what is there is a prefix of all that was."""

    async def main(seed):
        disk = make_disk(seed, latency=(1.0, 1.0))
        await disk.append("journal", b"abcd")
        writing = asyncio.ensure_future(disk.append("journal", b"efgh"))
        await asyncio.sleep(0.5)
        disk.crash()
        with pytest.raises(WorkspaceError, match="crashed during the append"):
            await writing
        return disk.files.get("journal", b"")

    left = {run_sim(lambda seed=seed: main(seed), seed=seed) for seed in SEEDS}
    assert left <= {b"abcdefgh"[:count] for count in range(9)}
    assert any(len(data) > 4 for data in left)


def test_a_file_that_is_removed_while_it_is_flushed_is_gone(sim):
    """Who flushes it is none the worse."""

    async def main():
        disk = make_disk(latency=(1.0, 1.0))
        await disk.append("journal", b"abcd")
        flushing = asyncio.ensure_future(disk.sync("journal"))
        await asyncio.sleep(0.5)
        disk.remove("journal")
        await flushing
        return disk.files

    assert sim(main) == {}


def test_a_crash_loses_nothing_that_was_flushed():
    """What sync has returned for is there, whatever the seed."""

    async def use(disk):
        await disk.append("journal", b"abcd")
        await disk.sync("journal")

    assert {files["journal"] for files in after_crash(use)} == {b"abcd"}


def test_a_written_file_is_there_after_its_return():
    """A write is a rename: its return promises the whole file, over any former one."""

    async def use(disk):
        await disk.write("model", [b"old"])
        await disk.write("model", [b"n", b"ew"])

    assert {files["model"] for files in after_crash(use)} == {b"new"}


def test_a_disk_that_lies_may_lose_what_was_flushed():
    """The safeguard that a flush is can be taken away, for a test that needs it."""

    async def use(disk):
        await disk.append("journal", b"abcd")
        await disk.sync("journal")

    left = [files.get("journal") for files in after_crash(use, lies=True)]
    assert {None, b"abcd"} < set(left)


def test_a_write_that_a_crash_interrupts_has_happened_or_not():
    """Its caller is told, should it still live; the file is whole in both cases."""

    async def main(seed):
        disk = make_disk(seed, latency=(1.0, 1.0))
        await disk.write("model", [b"old"])
        writing = asyncio.ensure_future(disk.write("model", [b"new"]))
        await asyncio.sleep(0.5)
        disk.crash()
        with pytest.raises(WorkspaceError, match="crashed during the write"):
            await writing
        return disk.files["model"]

    left = [run_sim(lambda seed=seed: main(seed), seed=seed) for seed in SEEDS]
    assert set(left) == {b"old", b"new"}


def test_a_full_disk_keeps_the_last_good_file(sim):
    """F20: the replacement needs room beside the former one, and an append is cut short."""

    async def main():
        disk = make_disk(capacity=10)
        await disk.write("model", [b"123456"])
        with pytest.raises(WorkspaceError, match="No space left on device: 5 bytes, room for 4"):
            await disk.write("model", [b"abcde"])
        with pytest.raises(WorkspaceError, match="room for 0"):
            await disk.append("log", b"123456")
        return disk.files

    assert sim(main) == {"model": b"123456", "log": b"1234"}


def test_one_bit_of_what_is_read_is_another_and_the_file_is_well(sim):
    """A flip on the way from the disk is gone at the next read; rot stays."""

    async def main():
        disk = make_disk(flips=1.0)
        await disk.write("model", [bytes(8)])
        read, stored = await disk.read("model"), disk.files["model"]
        disk.rot("model")
        return read, stored, disk.files["model"]

    read, stored, rotten = sim(main)
    assert stored == bytes(8)
    assert [int.from_bytes(data, "big").bit_count() for data in (read, rotten)] == [1, 1]


def test_failures_are_as_many_as_their_probability(sim):
    """EIO by the dice, as a typed error."""

    async def main():
        disk, failed = make_disk(failures=0.25), 0
        for number in range(400):
            try:
                await disk.write(f"file-{number}", [b"x"])
            except WorkspaceError:
                failed += 1
        return failed, len(disk.files)

    failed, there = sim(main)
    assert 70 <= failed <= 130
    assert failed + there == 400


@pytest.mark.parametrize("wrong", [{"latency": (2, 1)}, {"flips": 2}, {"capacity": -1}])
def test_a_disk_that_cannot_be_is_refused(sim, wrong):
    """The error names the argument."""

    async def main():
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make_disk(**wrong)
        return True

    assert sim(main)


def test_a_file_that_was_removed_does_not_come_back_with_a_crash():
    """Nor does removing one that was never there harm."""

    async def use(disk):
        await disk.write("old", [b"abc"])
        await disk.write("new", [b"def"])
        disk.remove("old")
        disk.remove("never")

    assert all(files == {"new": b"def"} for files in after_crash(use))
