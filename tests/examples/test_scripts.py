"""The examples with training scripts: in threads and in processes of their own, both the same.

Those of ``real_tf.py``, ``real_lightning.py`` and ``real_torchrun.py`` are stages of ``.ci/run``;
the first two have environments of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import real_lightning, real_tf, real_torchrun
from tests.examples.play import EXTERNAL, ROOT, Expected, check, play

EXAMPLES = {
    "hello-numpy": Expected("weight_mean", 7.0),
    "hello-pt": Expected("accuracy", 0.85, options=("--epochs", "1")),
    "hello-sklearn": Expected("accuracy", 0.85),
}
EVERY = {
    *EXAMPLES,
    *real_lightning.EXAMPLES,
    *real_tf.EXAMPLES,
    *real_torchrun.EXAMPLES,
}
pytestmark = [pytest.mark.example, pytest.mark.timeout(120)]


def test_every_example_with_a_script_is_played():
    """A folder that no file beside this one names is out of date soon."""
    played = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("*.py"))
    there = [path.parent.name for path in ROOT.glob("examples/*/job.py")]
    assert [name for name in there if f'"{name}"' not in played] == []


@pytest.mark.parametrize("name", sorted(EVERY))
def test_an_example_has_what_its_reader_needs(name):
    """A page, the job and the script."""
    there = {path.name for path in (ROOT / "examples" / name).iterdir()}
    assert {"README.md", "job.py", "client.py"} <= there


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_learns_the_same_in_threads_and_in_processes(name, tmp_path):
    """Every site contributes to every round, and the modes agree to 1e-5."""
    check(name, tmp_path, EXAMPLES[name])


@pytest.mark.slow
def test_differences_are_as_good_as_whole_models(tmp_path):
    """The script that sends what it changed has the same result."""
    options = ("--num_rounds", "2", "--update_type")
    whole = play("hello-numpy", tmp_path / "full", *options, "full")
    parts = play("hello-numpy", tmp_path / "diff", *options, "diff", EXTERNAL)
    assert parts.model["numpy_key"].tolist() == whole.model["numpy_key"].tolist()
