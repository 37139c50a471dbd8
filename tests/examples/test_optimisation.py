"""The examples of algorithms for optimisation: in threads and in processes, both the same."""

from __future__ import annotations

import pytest

from tests.examples.play import ROOT, Expected, check, check_rounds, play

EXAMPLES = {
    "ditto": Expected("accuracy", 0.5),
    "fedbn": Expected("accuracy", 0.5),
    "fedopt": Expected("accuracy", 0.4),
    "fedprox": Expected("accuracy", 0.5),
    "qfedavg": Expected("accuracy", 0.4),
    "scaffold": Expected("accuracy", 0.5),
}
pytestmark = [pytest.mark.example, pytest.mark.timeout(120), pytest.mark.slow]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_has_what_its_reader_needs(name):
    """A page, the job, the model and the script."""
    there = {path.name for path in (ROOT / "examples" / name).iterdir()}
    assert {"README.md", "job.py", "client.py", "model.py"} <= there


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_learns(name, tmp_path):
    """Every site contributes to every round."""
    played = play(name, tmp_path / "run", "--num_rounds", str(EXAMPLES[name].rounds))
    check_rounds(played, EXAMPLES[name])


@pytest.mark.parametrize("name", ["scaffold"])
def test_controls_travel_to_processes_as_to_threads(name, tmp_path):
    """Of all algorithms this one sends more than a model."""
    check(name, tmp_path, EXAMPLES[name])
