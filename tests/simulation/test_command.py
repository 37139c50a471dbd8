"""The command line: a replayed seed tells the same story in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import __main__ as command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]


def replayed(hash_seed):
    """Return what a process prints that replays a seed."""
    line = [sys.executable, "-m", "tests.simulation", "--scenario", "cuts", "--seed", "7"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_replay_is_the_same_whatever_the_hash_seed():
    """Story, trace hash and options, in two processes."""
    first, other = replayed("0"), replayed("77")
    assert first == other
    assert "\ntrace " in first
    assert "cuts seed 7 is clean: scenario='cuts' seed=7" in first


def test_seeds_are_run_in_processes_and_told_by_scenario(monkeypatch, capsys):
    """Two scenarios, two processes: a line each, a sum, and status 0."""
    words = ["simulation", "--seeds", "2", "--scenario", "late", "--scenario", "hostile"]
    monkeypatch.setattr(sys, "argv", words)
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "late         2 seeds, 0 failed" in said
    assert "hostile      2 seeds, 0 failed" in said
    assert said.splitlines()[-1].endswith(" 0 seeds failed")


def test_a_scenario_that_nobody_knows_is_refused(monkeypatch, capsys):
    """Status 2, and the names that there are."""
    monkeypatch.setattr(sys, "argv", ["simulation", "--scenario", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "jitter" in capsys.readouterr().err
