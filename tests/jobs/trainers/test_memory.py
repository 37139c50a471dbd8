"""A trainer that the system kills for memory, in a control group of the test's own."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CGROUPS = Path("/sys/fs/cgroup")
ALLOWED = 300_000_000  # bytes, for a client and its trainer

pytestmark = pytest.mark.slow


def bounded(folder):
    """Bound what the processes of a new group may use; OSError where that cannot be."""
    name = "memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes"
    (folder / name).write_text(str(ALLOWED))
    with suppress(OSError):
        (folder / "memory.swap.max").write_text("0")


@pytest.fixture
def group():
    """Return a control group, which is removed afterwards."""
    root = CGROUPS / "memory" if (CGROUPS / "memory").is_dir() else CGROUPS
    folder = root / f"flare-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc}")
    try:
        bounded(folder)
        yield folder
    except OSError as exc:
        pytest.skip(f"no control group bounds memory here: {exc}")
    finally:
        folder.rmdir()


def test_a_kill_for_memory_is_attributed(group):
    """The group of client and trainer counts it; a SIGKILL of somebody else is none."""
    command = [sys.executable, "-m", "tests.jobs.trainers.client_process", "hogs"]
    enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", enter, "sh", *command],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[1:] == ["trainer_out_of_memory"]
