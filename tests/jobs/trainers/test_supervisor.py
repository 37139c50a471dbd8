"""Nothing of a trainer outlives its client, whatever ends the client."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flare_async.jobs.trainers.supervisor import family
from tests.jobs.trainers.helpers import GONE_WITHIN, is_alive

ROOT = Path(__file__).resolve().parents[3]


def wait_for(condition, seconds=GONE_WITHIN):
    """Wait until a condition holds; return whether it does in time."""
    ended = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ended:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("words", [("stubborn",), ("grandchild", "sleep")])
def test_a_killed_client_leaves_no_trainer(tmp_path, words):
    """Within five seconds: neither who ignores SIGTERM, nor who left the group, nor the folder."""
    way, *rest = words
    command = [sys.executable, "-m", "tests.jobs.trainers.client_process"]
    client = subprocess.Popen(
        [*command, way, tmp_path / "pid", *rest], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with client:
        folder = Path(client.stdout.readline().strip()).parent
        assert wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        pid = int((tmp_path / "pid").read_text())
        below = set(family(client.pid)) - {client.pid}
        assert folder.is_dir()
        client.send_signal(signal.SIGKILL)
        assert wait_for(lambda: not any(map(is_alive, {pid, *below})))
        assert wait_for(lambda: not folder.exists())
    assert len(below) >= 2


def test_a_family_is_found_with_its_clock_ticks():
    """A process that computes uses some; one that is gone has no family."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "sum(range(10**9))"])
    try:
        assert wait_for(lambda: family(child.pid).get(child.pid, 0) > 2)
        assert child.pid in family(os.getpid())
    finally:
        child.kill()
        child.wait()
    assert family(child.pid) == {}
