"""The examples' jobs can be hunted and asked what-if: each has a ``recipe`` to ask for."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.examples.play import ROOT

EXAMPLES = ROOT / "examples"
NO_JOB = {"model_exchange.py"}
JOBS = sorted(
    path.relative_to(EXAMPLES).as_posix()
    for path in [*EXAMPLES.glob("*/job.py"), *EXAMPLES.glob("*.py")]
    if path.name not in NO_JOB
)
pytestmark = [pytest.mark.example, pytest.mark.timeout(60)]


def asked(command, job, *options):
    """Return what a command says of an example's job."""
    line = [sys.executable, "-m", "flare_async.sim", command, str(EXAMPLES / job), *options]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_a_recipe_that_needs_no_arguments(job):
    """And runs nothing when it is loaded: ``main`` does."""
    module = ast.parse((EXAMPLES / job).read_text("utf-8"))
    made = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    arguments = made["recipe"].args
    assert len(arguments.defaults) == len(arguments.posonlyargs + arguments.args)
    assert "recipe" in ast.unparse(made["main"]) or job == "async_app.py"


@pytest.mark.slow
@pytest.mark.parametrize("job", ["custom-recipe/job.py", "numpy_fedavg.py"])
def test_an_example_is_hunted(job):
    """Nothing is found in what is right."""
    found = asked("hunt", job, "--seeds", "4", "--processes", "1")
    assert found == "4 seeds, all clean\n"


@pytest.mark.slow
def test_an_example_with_a_script_is_asked_what_if():
    """Scripts run in no virtual time; only their sizes count."""
    found = asked("what-if", "hello-numpy/job.py", "--clients", "5", "--network", "lan", "--json")
    assert '"clients": 5' in found
