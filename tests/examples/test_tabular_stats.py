"""The example of federated statistics: what it prints and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.examples.play import ROOT

FOLDER = ROOT / "examples" / "hello-tabular-stats"
pytestmark = [pytest.mark.example, pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_the_table_is_described_without_being_shown(tmp_path, workers):
    """The same in this process and in others; twenty values have no histogram of ten bins."""
    for name in ("pandas", "sklearn", "fastdigest"):
        pytest.importorskip(name)
    line = [sys.executable, str(FOLDER / "job.py"), "--workers", workers]
    ended = subprocess.run(
        [*line, "--workspace", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "mean radius: 509 values, mean 14.0114, standard deviation 3.5582" in ended.stdout
    folder = tmp_path / "hello-tabular-stats-1" / "statistics"
    found = json.loads((folder / "cancer.json").read_text("utf-8"))["mean smoothness"]
    assert found["count"]["Global"]["train"] + found["failure_count"]["Global"]["train"] == 509
    assert set(found["histogram"]["Global"]) == {"train"}
    assert (folder / "cancer.html").is_file()


def test_the_example_has_what_its_reader_needs():
    """A page, the job and the generator."""
    there = {path.name for path in FOLDER.iterdir()}
    assert {"README.md", "job.py", "client.py"} <= there
