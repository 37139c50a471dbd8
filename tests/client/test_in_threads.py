"""Scripts as recipes run them in a simulation: NVFlare-style files with other import lines."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from flare_async import Limits, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe

SCRIPTS = Path(__file__).with_name("scripts")


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a script at some sites and returns the run."""

    def run(script, args="", *, clients=2, check=True, env=None, **options):
        settings = {"model": {"w": np.zeros(3, np.float32)}, "num_rounds": 2, **options}
        settings.setdefault("min_clients", clients)
        recipe = FedAvgRecipe(train_script=SCRIPTS / f"{script}.py", train_args=args, **settings)
        given = {"num_clients": clients, "workspace_root": tmp_path, **(env or {})}
        return recipe.execute(SimEnv(**given), check=check)

    return run


def threads():
    """Return how many script threads are alive."""
    return sum(thread.name.startswith("flare-script") for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["full", "diff"])
def test_the_client_of_hello_numpy_runs_with_other_import_lines(play, kind):
    """Full weights and differences give the same; its NumPy scalar becomes the metric."""
    model = np.arange(9, dtype=np.float32).reshape(3, 3)
    run = play("numpy_client", f"--update_type {kind} --delta 2", model=model, num_rounds=3)
    assert np.array_equal(run.model.numpy()["numpy_key"], model + 6)
    assert run.history.rounds[2].metrics == {"weight_mean": 8.0}


def test_the_same_scripts_may_send_whole_models_that_travel_as_differences(play):
    """``params_transfer_type="DIFF"`` is the recipe's affair."""
    model = np.ones((2, 2), np.float32)
    run = play("numpy_client", model=model, params_transfer_type="DIFF")
    assert np.array_equal(run.model.numpy()["numpy_key"], model + 2)


@pytest.mark.slow
def test_a_client_in_the_manner_of_hello_pt_learns(play):
    """Params are torch tensors; the tensor that is logged and the 0-d metric are numbers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    run = play("torch_client", "--epochs 2", model=net, num_rounds=3)
    accuracies = [record.metrics["accuracy"] for record in run.history.rounds]
    assert accuracies[-1] > accuracies[0]
    assert sorted(run.model) == sorted(net.state_dict())


def test_a_hundred_sites_share_one_script(play):
    """A thread each, and none is left."""
    run = play("numpy_client", clients=100, model=np.zeros(4, np.float32))
    assert [record.arrived for record in run.history.rounds] == [100, 100]
    assert np.array_equal(run.model.numpy()["numpy_key"], np.full(4, 2.0, np.float32))
    assert threads() == 0


def test_what_a_script_keeps_and_changes_harms_nobody(play):
    """It has copies of its own of what it received, and what it sent was copied."""
    run = play("keeping", clients=3, num_rounds=3)
    assert np.array_equal(run.model.numpy()["w"], np.full(3, 3.0))


def test_each_site_has_its_own_words_lines_and_options(play, capsys):
    """``sys.argv`` and the streams are the script's own, and the program's again afterwards."""
    argv, out, err, path = sys.argv, sys.stdout, sys.stderr, list(sys.path)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    own = {"site-2": {"train_args": "--number 2 'a b'", "bonus": 5}}
    try:
        run = play("probing", "--number 1 x", per_site_config=own, num_rounds=1)
    finally:
        logging.getLogger().removeHandler(handler)
    assert (sys.argv, sys.stdout, sys.stderr, sys.path) == (argv, out, err, path)
    assert handler.stream is err
    assert run.history.rounds[0].metrics["number"] == 1.5
    assert run.history.rounds[0].metrics["bonus"] == 2.5
    assert run.history.rounds[0].metrics["folder"] == len(str(Path.cwd()))
    printed = capsys.readouterr()
    for site in ("site-1", "site-2"):
        assert f"[{site}] half a line, whole\n" in printed.out
        assert f"[{site}] no newline\n" in printed.out
        assert f"[{site}] to the other stream\n" in printed.err
        assert f"[{site}] logged by {site}\n" in printed.err


def test_a_script_may_have_an_event_loop(play):
    """``async for task in flare.tasks()``."""
    assert np.array_equal(play("asynchronous").model.numpy()["w"], np.full(3, 2.0))


def test_the_deprecated_decorators_work(play):
    """What evaluate returned goes with the trained model."""
    run = play("decorated")
    assert np.array_equal(run.model.numpy()["w"], np.full(3, 4.0))
    assert run.history.rounds[1].metrics == {"accuracy": 2.0}


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        ("raise", "ValueError: the data set is empty", "training_failed"),
        ("exit-3", "the script exited with status 3", "trainer_exit"),
        ("exit-text", "the script exited with status 1: no licence", "trainer_exit"),
        ("exit-0", "the script ended without a result", "trainer_no_result"),
        ("nan", "not finite", "update_refused"),
    ],
)
def test_a_script_that_fails_fails_its_site_with_the_reason(play, kind, reason, code):
    """The run has failed: its quorum is not reached."""
    run = play("misbehaving", f"{kind} 1", check=False)
    assert run.status == "failed"
    assert reason in run.history.failed_sites()["site-1"]
    assert run.history.failed_codes()["site-1"] == code
    assert f"site-1: {code}: " in run.explain() or kind == "nan"
    assert [record.arrived for record in run.history.rounds] == [2, 0]
    assert threads() == 0


def test_a_failed_site_starts_anew_in_the_next_round(play):
    """The quorum lets the run go on."""
    own = {"site-2": {"train_args": "raise 1"}}
    run = play("misbehaving", "no 9", num_rounds=3, min_clients=1, per_site_config=own)
    assert [record.arrived for record in run.history.rounds] == [2, 1, 2]


def test_a_script_that_ends_after_its_result_is_started_for_the_next(play):
    """As with a process for each task."""
    run = play("misbehaving", "end-after-each 9", num_rounds=3)
    assert np.array_equal(run.model.numpy()["w"], np.full(3, 3.0))


def test_an_error_after_the_result_is_told_with_the_next_task(play):
    """The result counts; in the round after that the script starts anew."""
    run = play("misbehaving", "raise-after-send 9", num_rounds=3, min_clients=1)
    assert [record.arrived for record in run.history.rounds] == [2, 1, 2]
    (failed,) = [site for site in run.history.rounds[1].sites if site.reason]
    assert "ValueError: after the result" in failed.reason


def test_a_script_that_sleeps_for_ever_is_named_with_its_line(play):
    """Neither processor time nor calls for ``trainer_idle_timeout``: a hang."""
    env = {"limits": Limits(trainer_idle_timeout=0.5)}
    run = play("misbehaving", "sleep 1", check=False, env=env)
    reason = run.history.failed_sites()["site-1"]
    assert run.history.failed_codes()["site-1"] == "trainer_idle"
    assert "did nothing for 0.5 s (trainer_idle_timeout): last call flare.receive, at" in reason
    assert "misbehaving.py:" in reason
    assert "in misbehave" in reason


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("name", "encoding", "newline"),
    [("a b.py", "utf-8-sig", "\r\n"), ("é.py", "latin-1", "\n")],
)
def test_scripts_come_from_any_editor(tmp_path, external, name, encoding, newline):
    """Spaces in the path, a mark in front, Windows line ends, another encoding; odd output."""
    text = (SCRIPTS / "numpy_client.py").read_text("utf-8")
    said = 'import os\nos.write(1, b"\\xff\\xfe ")\nprint("\u00e9")\n'
    coded = f"# -*- coding: {encoding} -*-\n" if encoding == "latin-1" else ""
    folder = tmp_path / "with space"
    folder.mkdir()
    script = folder / name
    script.write_text(f"{coded}{text}\n{said}", encoding=encoding, newline=newline)
    model = {"numpy_key": np.zeros(4, np.float32)}
    where = {"train_script": script, "launch_external_process": external}
    recipe = FedAvgRecipe(model=model, num_rounds=1, min_clients=1, **where)
    run = recipe.execute(SimEnv(num_clients=1, workspace_root=tmp_path))
    assert run.model.numpy()["numpy_key"].tolist() == [1.0] * 4


def test_a_forked_child_of_a_script_is_refused(tmp_path):
    """In a process of its own, because forking one with threads is nothing for a test's."""
    job = [sys.executable, "-W", "ignore", str(SCRIPTS / "forking_job.py"), str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(SCRIPTS.parents[2])}
    done = subprocess.run(job, check=True, capture_output=True, text=True, timeout=30, env=environ)
    assert "[site-1] the child was refused: True" in done.stdout


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_scripts_run_in_threads_or_in_processes_of_their_own(play, workers):
    """The environment says so before anything is started."""
    with pytest.raises(ConfigError, match="launch_external_process=True") as caught:
        play("numpy_client", env={"workers": workers})
    assert caught.value.field == "workers"
