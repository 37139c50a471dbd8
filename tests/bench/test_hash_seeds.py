"""A bench in processes with several hash seeds: whether their traces are one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hash_seeds import compared

PROGRAM = """
import json, os

trace = "trace " + os.environ["PYTHONHASHSEED"] if {differs} else "trace 5eed"
rows = [("wall", 2.0), ("frames", 7), (trace, 6)]
print(json.dumps({{"rows": [{{"case": "a", "metric": m, "value": v}} for m, v in rows]}}))
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let child processes import modules from a folder."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("differs", "same"), [(False, 1.0), (True, 0.0)])
def test_each_hash_seed_has_a_process_and_another_trace_is_seen(path, differs, same):
    """Wall times are told, traces compared with the first one."""
    (path / "told.py").write_text(PROGRAM.format(differs=differs), "utf-8")
    rows = compared("told", ["--flag=1"], [0, 77])
    assert [row.value for row in rows] == [2.0, 1.0, 2.0, same]
    assert [row.metric.split(":")[0] for row in rows] == ["PYTHONHASHSEED 0"] * 2 + [
        "PYTHONHASHSEED 77"
    ] * 2
