"""The recipe of one's own: its job, and its own tests, as its reader would run them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.examples.play import ROOT, play

FOLDER = ROOT / "examples" / "custom-recipe"


@pytest.mark.slow
def test_the_job_runs(tmp_path):
    """The model goes where the sites agree most."""
    played = play("custom-recipe", tmp_path / "runs")
    assert "status: completed" in played.said
    losses = [row["metrics"]["loss"] for row in played.rounds]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_its_tests_pass_in_virtual_time(tmp_path):
    """An hour at a slow site takes no second."""
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    options = [f"--rootdir={FOLDER}", f"--basetemp={tmp_path / 'base'}", str(FOLDER)]
    ended = subprocess.run(
        [*line, *options],
        cwd=FOLDER,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert "3 passed" in ended.stdout


def test_the_recipe_is_forty_lines():
    """A page that is read at once."""
    assert len((FOLDER / "recipe.py").read_text("utf-8").splitlines()) <= 40
