"""A virtual run is a function of its seed: whatever the hash seed, the tracing and the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)  # six processes, which import everything anew
STORY = Path(__file__).parent / "story.py"
ROOT = Path(__file__).parents[3]


@cache
def told(payload: str, *, hash_seed: int = 0, trace: str = "traced", junk: int = 0) -> list[str]:
    """Return what a process of its own prints: event hash, step hash, seconds."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(STORY), payload, trace, str(junk)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_hash_seed_has_no_say():
    """The same events at the same seconds, and the same steps of every task."""
    found = [told("sizes", hash_seed=seed) for seed in (0, 1, 77)]
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) == len(found[0][1]) == 64


def test_tracing_and_junk_change_nothing():
    """Addresses of objects, and who looks on, are no part of the story."""
    plain = told("sizes", trace="untraced", junk=250_000)
    traced = told("sizes")
    assert plain[1] == "-"
    assert (plain[0], plain[2]) == (traced[0], traced[2])


def test_payloads_take_the_same_time_whether_they_have_bytes_or_sizes():
    """What a size-only update leaves out is work of processors, never a frame."""
    (*bytes_too, _, ended), (*sizes_only, _, also) = told("bytes", hash_seed=1), told("sizes")
    assert (bytes_too, ended) == (sizes_only, also)
