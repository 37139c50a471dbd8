"""Lines of many writers reach the file whole, once, and in few writes."""

from __future__ import annotations

import anyio
import pytest

from flare_async.errors import WorkspaceError
from flare_async.jobs.records.lines import LineFile


class Disk:
    """A store that keeps what is appended, or fails."""

    def __init__(self, *, full=False):
        self.full, self.writes = full, []

    async def append(self, name, data):
        """Keep one write."""
        if self.full:
            raise WorkspaceError("workspace", name, "no space left")
        self.writes.append(data)


@pytest.mark.asyncio
async def test_those_who_write_at_once_share_a_write():
    """Each waits until its own lines are there."""
    file = LineFile(disk := Disk(), "x")

    async def write(number):
        await file.append(b"%d\n" % number)
        assert any(b"%d\n" % number in data for data in disk.writes)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(write, number)
    assert disk.writes == [b"".join(b"%d\n" % number for number in range(100))]


@pytest.mark.asyncio
async def test_a_writer_that_is_cancelled_writes_for_the_others_first():
    """Nobody waits for one that is gone, and nothing is lost."""
    file, came = LineFile(disk := Disk(), "x"), []

    async def write():
        await file.append(b"second\n")
        came.append("second")

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(write)
            scope.cancel()
            await file.append(b"first\n")
        await anyio.lowlevel.checkpoint()
    await file.append(b"third\n")
    assert (sorted(b"".join(disk.writes).split()), came) == (
        [b"first", b"second", b"third"],
        ["second"],
    )


@pytest.mark.asyncio
async def test_a_full_disk_is_told_and_holds_up_nobody():
    """The first problem stays."""
    file = LineFile(Disk(full=True), "x")
    await file.append(b"a\n")
    await file.append(b"b\n")
    assert "no space left" in file.problem
