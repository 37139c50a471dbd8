"""What a hunt tells: where user code waits, what has chance of its own, and of which files."""

from __future__ import annotations

import json
import shlex

import pytest

from flare_async.sim.cli import run_command_line
from flare_async.sim.hunt.case import PLAIN, Case, drawn_case
from flare_async.sim.hunt.hunter import Hunt
from flare_async.sim.hunt.judge import Judge
from flare_async.sim.hunt.play import Job, play_case

HEAD = """
import asyncio
import json
import numpy as np
from flare_async import FLModel
from flare_async.recipes import FedAvgRecipe, SwarmRecipe, add_cross_site_evaluation
from flare_async.transfer.filters import GaussianDP

usual = dict(model={"w": np.zeros(8)}, min_clients=2, num_rounds=1)


def train(model, site):
    return FLModel(params={"w": model.params["w"] + site.rng.normal(size=8)})


def evaluate(model, site):
    return {"accuracy": float(model.params["w"].mean())}


def recipe():
"""
SITES = tuple(f"site-{number}" for number in range(1, 4))

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a job file, in a folder of its own that is the current one."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def write(body):
        path = tmp_path / "jobs" / "job.py"
        path.write_text(f"{HEAD}    {body}\n")
        return path

    return write


def hunting(path):
    """Return a hunt with three sites."""
    job = Job(path, 3)
    return Hunt(job, Judge(job), may_lose=False)


def test_a_train_function_that_waits_is_named(written):
    """With the line in which it does, behind all that leads there."""
    waits = "async def waits(model, site):\n        await asyncio.Event().wait()\n"
    outcome = play_case(
        Job(written(f"{waits}    return FedAvgRecipe(train=waits, **usual)"), 3), PLAIN
    )
    waiting = [line for line in outcome.stuck.splitlines() if line.startswith("  site-2: ")]
    assert len(waiting) == 1
    assert " > recipe.<locals>.waits:" in waiting[0]


def test_a_job_with_chance_of_its_own_is_told_as_such(written):
    """Its findings are no matter of order, and it is not made smaller."""
    noisy = "lambda m, s: FLModel(params={'w': m.params['w'] + np.random.default_rng().normal()})"
    hunt = hunting(written(f"return FedAvgRecipe(train={noisy}, **usual)"))
    report = hunt.report(hunt.verdict(0), "the command")
    assert "the same participants give the same bits" in report
    assert "played again it is another story" in report
    assert "divergence" not in report


def test_a_replay_says_whether_it_was_one(written, capsys):
    """Without findings, too; with --json it is still one document."""
    noisy = "lambda m, s: FLModel(params={'w': m.params['w'] + np.random.default_rng().normal()})"
    path = str(written(f"return FedAvgRecipe(train={noisy}, **usual)"))
    words = ["hunt", path, "--seed", "2", "--clients", "3", "--any-order"]
    assert run_command_line(words) == 1
    assert "seed 2 is not to be judged" in capsys.readouterr().out
    assert run_command_line([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["findings"], document["reproducible"]) == ([], False)


def test_a_replayed_seed_is_the_one_that_failed(written, capsys):
    """The printed command, pasted, tells the same again."""
    path = written("return FedAvgRecipe(train=train, **usual)\n\n\ndef check(run):\n    assert 0")
    words = ["hunt", str(path), "--seeds", "2", "--processes", "1", "--clients", "3"]
    assert run_command_line(words) == 1
    told = capsys.readouterr().out
    command = shlex.split(told.splitlines()[1])
    assert command[:3] == ["python", "-m", "flare_async.sim"]
    assert run_command_line(command[3:]) == 1
    assert told.startswith(capsys.readouterr().out.rstrip("\n"))


def test_a_check_that_would_end_the_process_is_a_finding(written):
    """The hunt goes on."""
    body = "return FedAvgRecipe(train=train, **usual)\n\n\ndef check(run):\n    raise SystemExit(5)"
    assert hunting(written(body)).verdict(0).findings == ("the job's check: SystemExit: 5",)


def test_the_model_of_a_swarm_is_judged(written):
    """It is in its sites' files only, and the same whatever the links do."""
    job = Job(written("return SwarmRecipe(train=train, **usual)"), 3)
    digests = {play_case(job, drawn_case(seed, SITES, may_lose=False)).digest for seed in range(4)}
    assert digests == {play_case(job, PLAIN).digest} != {""}


def test_a_check_finds_the_files_of_the_run_and_nobody_else_does(written, tmp_path):
    """The run folder is there for the check, and gone when a case is over."""
    body = (
        "made = FedAvgRecipe(train=train, evaluate=evaluate, **usual)\n"
        "    add_cross_site_evaluation(made)\n    return made\n\n\n"
        "def check(run):\n"
        "    path = run.get_result() / 'cross_site_val' / 'cross_val_results.json'\n"
        "    assert len(json.loads(path.read_text())) == 3\n"
        "    assert run.best_model is not None\n"
        "    raise ValueError(path)\n"
    )
    hunt = hunting(written(body))
    (found,) = hunt.verdict(1).findings
    assert found.endswith("ValueError: simulated-disk/cross_site_val/cross_val_results.json")
    assert hunt.verdict(1).findings == (found,)
    assert list((tmp_path / "here").iterdir()) == []


def test_who_is_lost_is_lost_for_one_kind_of_task(written):
    """A recipe may evaluate and train under the same number."""
    job = Job(written("return FedAvgRecipe(train=train, **usual)"), 3)
    plain = play_case(job, PLAIN).digest
    cases = {k: Case(seed=1, lost=frozenset({(0, k, "site-1")})) for k in ("train", "validate")}
    assert play_case(job, cases["validate"]).digest == plain
    assert play_case(job, cases["train"]).digest != plain


def test_noise_of_filters_is_the_seeds(written):
    """Privacy's noise depends on the job's seed, the site and the round: not on order or links."""
    body = "made = FedAvgRecipe(train=train, **usual)\n"
    noisy = "    made.add_client_output_filter(GaussianDP(2.0, 0.5), tasks=['train'])\n"
    plain = play_case(Job(written(f"{body}    return made"), 3), PLAIN).digest
    job = Job(written(f"{body}{noisy}    return made"), 3)
    digests = {play_case(job, drawn_case(seed, SITES, may_lose=False)).digest for seed in range(6)}
    assert digests == {play_case(job, PLAIN).digest} != {plain}
    assert play_case(Job(job.path, 3, seed=8), PLAIN).digest not in digests


NOTED = """usual.update(train=train)
    return FedAvgRecipe(**usual)


def check(run):
    import sys
    sys.stderr.write("checked\\n")
    assert False, "never\\nright"
"""


def test_a_finding_is_told_when_it_is_found(written, capsys):
    """Before the next seed is played; the results come behind all of them."""
    path = str(written(NOTED))
    assert run_command_line(["hunt", path, "--seeds", "2", "--processes", "1"]) == 1
    said = capsys.readouterr()
    told = [f"seed {seed} fails: the job's check: AssertionError: never" for seed in (0, 1)]
    first, second = (said.err.index(line) for line in told)
    assert "checked" in said.err[first:second]
    assert said.out.endswith("2 of 2 seeds fail: 0, 1\n")


def test_every_process_of_a_hunt_tells_its_findings(written, capfd):
    """On the standard error that all share; standard output has the results alone."""
    path = str(written(NOTED))
    assert run_command_line(["hunt", path, "--seeds", "4", "--json"]) == 1
    said = capfd.readouterr()
    told = sorted(line for line in said.err.splitlines() if line.startswith("seed "))
    assert [line.split()[1] for line in told] == ["0", "1", "2", "3"]
    assert len(json.loads(said.out)["failing"]) == 4
