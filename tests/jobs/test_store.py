"""Run folders: whole files or none, nothing outside of them, a new folder a run.

Small writes of a quick store happen on the loop on purpose, so these tests run without its guard.
"""

from __future__ import annotations

import asyncio
import os

import anyio
import pytest

from flare_async.errors import WorkspaceError
from flare_async.jobs.store import FolderStore, new_run_folder
from flare_async.limits import MIB


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def store(tmp_path, request):
    """Return a store of each kind."""
    return FolderStore(tmp_path, durable=request.param)


@pytest.mark.parametrize("size", [0, 10, MIB + 1])
def test_what_is_written_is_read_back(store, size):
    """Chunks are joined; nothing but the file is left."""
    asyncio.run(store.write("model.bin", [b"a" * size, memoryview(b"bc")]))
    assert asyncio.run(store.read("model.bin")) == b"a" * size + b"bc"
    assert os.listdir(store.folder) == ["model.bin"]  # noqa: PTH208


def test_writing_again_replaces(store):
    """The former content is gone."""
    asyncio.run(store.write("run.json", [b"a long first version"]))
    asyncio.run(store.write("run.json", [b"second"]))
    assert asyncio.run(store.read("run.json")) == b"second"


def test_appending_adds_lines(store):
    """The file is made by the first line."""
    asyncio.run(store.append("history.jsonl", b"1\n"))
    asyncio.run(store.append("history.jsonl", b"2\n"))
    assert asyncio.run(store.read("history.jsonl")) == b"1\n2\n"


def test_a_failed_write_leaves_the_former_content_and_no_part(store):
    """The target is a folder here, which no file can replace."""
    (store.folder / "taken").mkdir()
    with pytest.raises(WorkspaceError, match="taken"):
        asyncio.run(store.write("taken", [b"data"]))
    assert os.listdir(store.folder) == ["taken"]  # noqa: PTH208


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused(store, name):
    """Reading, writing and appending alike."""
    for attempt in (store.write(name, [b""]), store.append(name, b""), store.read(name)):
        with pytest.raises(WorkspaceError, match="leaves the run folder"):
            asyncio.run(attempt)


def test_a_file_that_is_not_there_is_a_typed_error(store):
    """With the path and the system's words."""
    with pytest.raises(WorkspaceError, match=r"gone\.json.*No such file"):
        asyncio.run(store.read("gone.json"))


def test_a_folder_that_has_gone_is_a_typed_error(tmp_path):
    """Both for whole files and for lines."""
    store = FolderStore(tmp_path / "gone", durable=False)
    with pytest.raises(WorkspaceError, match="gone"):
        asyncio.run(store.write("a", [b""]))
    with pytest.raises(WorkspaceError, match="gone"):
        asyncio.run(store.append("a", b""))


def test_cancelling_a_large_write_leaves_no_part(tmp_path):
    """The worker thread is waited for, so the file is whole or was never there."""

    async def cancelled_write():
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await FolderStore(tmp_path).write("big", [bytes(8 * MIB)])

    asyncio.run(cancelled_write())
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] in (
        [],
        [("big", 8 * MIB)],
    )


def test_every_run_gets_the_next_free_folder(tmp_path):
    """Folders of other recipes, and gaps, do not matter."""
    root = tmp_path / "deep" / "root"
    names = [new_run_folder(root, "fedavg").name for _ in range(3)]
    (root / "fedavg-2").rmdir()
    names += [new_run_folder(root, "fedavg").name, new_run_folder(root, "other").name]
    assert names == ["fedavg-1", "fedavg-2", "fedavg-3", "fedavg-2", "other-1"]


def test_a_root_that_is_a_file_is_refused(tmp_path):
    """The hint names the option that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="--workspace"):
        new_run_folder(tmp_path / "file", "fedavg")
