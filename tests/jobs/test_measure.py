"""What a process tells of its own memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flare_async.jobs.measure import peak_rss_mb

ROOT = Path(__file__).parents[2]
LARGE = 200_000_000
TELLS = "from flare_async.jobs.measure import peak_rss_mb; print(peak_rss_mb())"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the peak otherwise")
def test_a_process_does_not_count_the_memory_of_its_parent():
    """It was started by this process, which is larger than it will ever be."""
    held = np.ones(LARGE // 8)
    done = subprocess.run([sys.executable, "-c", TELLS], cwd=ROOT, capture_output=True, check=True)
    assert peak_rss_mb() * 1e6 > held.nbytes
    assert 1 < float(done.stdout) < LARGE / 1e6


def test_without_the_systems_file_the_usage_stands_in(tmp_path):
    """It is no less than the other."""
    assert peak_rss_mb(tmp_path / "absent") >= peak_rss_mb() * 0.95


def test_a_file_without_the_figure_is_as_none(tmp_path):
    """Kernels may leave it out."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\tmany kB\n")
    assert peak_rss_mb(status) == pytest.approx(peak_rss_mb(tmp_path / "absent"), rel=0.01)
