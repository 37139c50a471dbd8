"""The examples of k-means, SVM, Newton's method and filters, in threads and in processes."""

from __future__ import annotations

import pytest

from tests.examples.play import EXTERNAL, ROOT, Expected, check_rounds, play

EXAMPLES = {
    "filters": Expected("accuracy", 0.7),
    "hello-lr": Expected("accuracy", 0.95),
    "sklearn-kmeans": Expected("homogeneity", 0.65),
}
pytestmark = [pytest.mark.example, pytest.mark.timeout(120), pytest.mark.slow]


@pytest.mark.parametrize("name", [*EXAMPLES, "sklearn-svm"])
def test_an_example_has_what_its_reader_needs(name):
    """A page, the job and the script."""
    there = {path.name for path in (ROOT / "examples" / name).iterdir()}
    assert {"README.md", "job.py", "client.py"} <= there


@pytest.mark.parametrize("name", ["filters", "hello-lr"])
def test_an_example_learns(name, tmp_path):
    """Every site contributes to every round."""
    played = play(name, tmp_path / "run", "--num_rounds", "3")
    check_rounds(played, EXAMPLES[name])


def test_clusters_are_found_in_threads_and_in_processes(tmp_path):
    """Both alike; round 0 has no centres to judge."""
    runs = [play("sklearn-kmeans", tmp_path / kind, *options) for kind, *options in MODES]
    for played in runs:
        assert played.rounds[-1]["metrics"]["homogeneity"] >= EXAMPLES["sklearn-kmeans"].floor
        assert played.rounds[0]["metrics"] == {}
    assert (runs[0].model["center"] == runs[1].model["center"]).all()


def test_support_vectors_come_from_threads_and_processes(tmp_path):
    """Both alike, and good for samples that nobody has trained on."""
    runs = [play("sklearn-svm", tmp_path / kind, *options) for kind, *options in MODES]
    for played in runs:
        assert played.rounds[1]["metrics"]["AUC"] > 0.95
    assert (runs[0].model["support_x"] == runs[1].model["support_x"]).all()


MODES = (("threads",), ("processes", EXTERNAL))
