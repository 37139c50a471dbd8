"""Hunting in users' jobs: right ones are clean, and each planted mistake is found and replayed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flare_async.sim.cli import run_command_line
from flare_async.sim.hunt.case import PLAIN, Case, drawn_case
from flare_async.sim.hunt.hunter import Hunt
from flare_async.sim.hunt.judge import Judge
from flare_async.sim.hunt.play import Job, play_case
from flare_async.testing import Freeze

HERE = Path(__file__).parent
SITES = tuple(f"site-{number}" for number in range(1, 6))

FEDAVG = """
import numpy as np
from flare_async import FLModel
from flare_async.recipes import FedAvgRecipe


def train(model, site):
    return model


def noisy(model, site):
    return FLModel(params={{"w": model.params["w"] + site.rng.normal(size=3)}})


def recipe():
    return FedAvgRecipe(model={{"w": np.zeros(3)}}, min_clients=2, {options})
"""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def job_file(tmp_path):
    """Return a function that writes a job file with one of the recipes."""

    def write(name, more=""):
        shutil.copy(HERE / "hunted_jobs.py", tmp_path)
        path = tmp_path / f"{name.lower()}.py"
        path.write_text(
            f"from hunted_jobs import {name}\n\n\ndef recipe():\n    return {name}()\n{more}"
        )
        return path

    return write


def hunted(path, seeds, *, may_lose=False, clients=5):
    """Return the hunt and the failing verdicts among the first seeds."""
    job = Job(path, clients)
    hunt = Hunt(job, Judge(job), may_lose)
    return hunt, [one for one in map(hunt.verdict, range(seeds)) if one.findings]


def test_a_right_recipe_is_clean(job_file):
    """In 30 cases, half of them with faults."""
    assert hunted(job_file("Adding"), 30)[1] == []


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("AsTheyCome", "the same participants give the same bits"),
        ("ChecksThenAwaits", "the same participants give the same bits"),
    ],
)
def test_a_race_is_found_and_replayed(job_file, name, rule):
    """The same seed shows the same again; the report says what parts it from a run that passes."""
    hunt, failing = hunted(job_file(name), 20)
    assert failing
    first = failing[0]
    assert first.findings[0].startswith(rule)
    assert hunt.verdict(first.seed) == first
    report = hunt.report(first, "the command")
    assert "replay it with\n  the command" in report
    assert "first divergence at" in report or "in the plain order" in report


@pytest.mark.sweep
def test_a_deadlock_names_what_waits(job_file):
    """The recipe's own line is in the report."""
    job = Job(job_file("WaitsForAll"), 5)
    hunt = Hunt(job, Judge(job), True)
    failing = (one for one in map(hunt.verdict, range(40)) if one.findings)
    stuck = next((one for one in failing if one.findings[0].startswith("it ends")), None)
    assert stuck is not None
    assert "WaitsForAll.added" in stuck.findings[0]
    assert "it fails with no more than: " in hunt.report(stuck, "the command")


def test_a_deadline_below_the_length_of_trainings_is_no_mistake(tmp_path):
    """Of the job, that is: what a case draws may be longer. What fails by itself is one."""
    job = tmp_path / "job.py"
    job.write_text(FEDAVG.format(options="train=train, round_timeout=2.0"))
    hunt, failing = hunted(job, 20, may_lose=True)
    closed = [seed for seed in range(20) if play_case(hunt.job, hunt.case(seed)).run.cause]
    assert closed
    assert failing == []
    job.write_text(FEDAVG.format(options="train=lambda *_: 1 / 0, round_timeout=2.0"))
    assert hunted(job, 1, may_lose=True)[1]


def test_a_site_that_missed_the_start_excuses_what_follows(tmp_path):
    """Its link stood until the start had been; the model of the others is another one."""
    job = tmp_path / "job.py"
    job.write_text(FEDAVG.format(options="train=noisy"))
    case = Case(seed=1, relays=2, relay_mode="cache", faults=(Freeze(0.0, site="site-3"),))
    played = Job(job, 3)
    outcome = play_case(played, case)
    assert outcome.absent == ("site-3",)
    assert outcome.digest != play_case(played, PLAIN).digest
    assert Judge(played).findings(outcome) == []


def test_the_jobs_own_check_is_asked(job_file):
    """What it raises is a finding."""
    more = "\n\ndef check(run):\n    assert run.history.rounds[1].arrived == 4, 'not four'\n"
    _, failing = hunted(job_file("Adding", more), 2)
    assert [one.findings for one in failing] == [("the job's check: AssertionError: not four",)] * 2


def test_the_plain_case_differs_from_no_other_in_bits(job_file):
    """Whatever its links and trainings do, the job's own seed decides the model."""
    job = Job(job_file("Adding"), 5)
    digests = {play_case(job, drawn_case(seed, SITES, may_lose=False)).digest for seed in range(6)}
    assert digests == {play_case(job, PLAIN).digest}


def test_even_seeds_are_calm_and_odd_ones_are_not():
    """Trainers die only where a round may end without them."""
    cases = [drawn_case(seed, SITES, may_lose=seed > 50) for seed in range(100)]
    assert [case.calm for case in cases] == [seed % 2 == 0 for seed in range(100)]
    assert not any(case.crash for case in cases[:51])
    assert any(case.crash for case in cases[51:])
    assert any(case.relays for case in cases)


def test_links_fail_in_no_way_that_costs_an_update():
    """Flipped bits do: in a message nothing but TLS finds them."""
    cases = [drawn_case(seed, SITES, may_lose=False) for seed in range(1, 2000, 2)]
    kinds = {type(fault).__name__ for case in cases for fault in case.faults}
    assert kinds == {"Cut", "Delay", "Freeze", "ResetInFrame", "Slice"}


@pytest.mark.parametrize(
    ("options", "words", "said"),
    [
        ('train_script="client.py"', (), "no script runs in virtual time"),
        ("train=train", ("--clients", "1"), "exceeds the 1 clients"),
        ('train=train, per_site_config={"x": {}}', (), "no such sites"),
    ],
)
def test_what_no_case_can_play_is_told_at_once(tmp_path, capsys, options, words, said):
    """Before a process is started, as a configuration error."""
    job = tmp_path / "job.py"
    (tmp_path / "client.py").write_text("")
    job.write_text(FEDAVG.format(options=options.replace("client.py", f"{tmp_path}/client.py")))
    assert run_command_line(["hunt", str(job), *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed


def test_files_of_sites_are_there(tmp_path):
    """As in every other run."""
    job = tmp_path / "job.py"
    (tmp_path / "start.txt").write_text("1 2 3")
    more = f"\n\nadded = recipe()\nadded.add_client_file({str(tmp_path / 'start.txt')!r})\n"
    options = "train=lambda model, site: site.file('start.txt') and model"
    job.write_text(FEDAVG.format(options=options) + more + "recipe = added\n")
    assert hunted(job, 2)[1] == []


@pytest.mark.sweep
def test_a_part_may_say_more_than_a_pipe_holds(job_file, capsys):
    """Findings of many lines; a part that dies is an error, not a bug."""
    more = "\n\ndef check(run):\n    raise ValueError('x' * 60_000)\n"
    words = ["hunt", str(job_file("Adding", more)), "--seeds", "6", "--clients", "5", "--json"]
    assert run_command_line(words) == 1
    assert len(json.loads(capsys.readouterr().out)["failing"]) == 6
    died = job_file("Adding", "\n\ndef check(run):\n    import os\n    os._exit(9)\n")
    assert run_command_line(["hunt", str(died), "--seeds", "2", "--clients", "5"]) == 3
    assert "a process of it exited with status 9" in capsys.readouterr().err


@pytest.mark.sweep
def test_the_command_tells_failing_seeds_and_their_replay(job_file, capsys):
    """Two processes; exit status 1, and the same seed again with its own command."""
    path = str(job_file("AsTheyCome"))
    assert run_command_line(["hunt", path, "--seeds", "12", "--clients", "5", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    seeds = [one["seed"] for one in document["failing"]]
    assert seeds == sorted(seeds)
    assert len(seeds) > 2
    words = ["hunt", path, "--seed", str(seeds[0]), "--clients", "5"]
    assert run_command_line(words) == 1
    said = capsys.readouterr().out
    assert f"python -m flare_async.sim hunt {path} --seed {seeds[0]} --clients 5" in said


def test_a_clean_hunt_is_exit_status_0(job_file, capsys):
    """And a job that is not there is a configuration error."""
    words = ["hunt", str(job_file("Adding")), "--seeds", "2", "--processes", "1", "--clients", "5"]
    assert run_command_line(words) == 0
    assert capsys.readouterr().out == "2 seeds, all clean\n"
    assert run_command_line(["hunt", "nowhere.py"]) == 2
