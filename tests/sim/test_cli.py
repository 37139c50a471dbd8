"""The command line, in this process."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from flare_async.sim.cli import run_command_line

JOB = """
import numpy as np
from flare_async import FLModel
from flare_async.recipes import FedAvgRecipe

def train(model, site):
    print("hello from", site.name)
    if site.name == BAD:
        raise ValueError("disk is full")
    w = model.params["w"] + site.index + 1
    return FLModel(params={"w": w}, metrics={"loss": 1.0 / (site.round_number + 1)})

BAD = ""
recipe = FedAvgRecipe(
    name="mine", model={"w": np.zeros(4, np.float32)}, train=train, min_clients=2, num_rounds=2
)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder that has a job file; logging is put back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    yield tmp_path
    structlog.reset_defaults()


def run(*arguments: str) -> int:
    """Run the command line with inline workers."""
    return run_command_line([*arguments, "--workers", "inline"])


def documents(text: str) -> dict[str, object]:
    """Return the one document on standard output."""
    assert text.count("\n") == 1
    whole = json.loads(text, parse_constant=pytest.fail)
    assert set(whole) == {"schema", "ok", "code", "data", "error"}
    return whole


def test_a_job_runs_and_leaves_its_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models, history, report and picture are there, below ./flare-runs."""
    assert run("job.py", "--clients", "3") == 0
    folder = here / "flare-runs" / "mine-1"
    for name in ("FL_global_model.safetensors", "history.jsonl", "run.json", "report.html"):
        assert (folder / name).stat().st_size > 0
    assert len((folder / "history.jsonl").read_text().splitlines()) == 2
    out, err = capsys.readouterr()
    assert "mine-1: completed" in out
    assert "round 1 (train): 3 of 3 sites" in err


def test_json_is_one_document_and_user_prints_go_elsewhere(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output carries the document and nothing else."""
    assert run("job.py", "--json", "--rounds", "1", "--clients", "2") == 0
    out, err = capsys.readouterr()
    data = documents(out)["data"]
    assert isinstance(data, dict)
    assert (data["status"], data["rounds"], data["clients"]) == ("completed", 1, 2)
    assert len(str(data["model_digest"])) == 64
    assert "hello from site-1" in err


def test_quiet_says_nothing_while_the_run_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What remains on standard error is what user code prints."""
    assert run("job.py", "--quiet", "--clients", "2", "--rounds", "1") == 0
    assert set(capsys.readouterr().err.split("\n")) == {
        "hello from site-1",
        "hello from site-2",
        "",
    }


def test_a_failing_site_is_named_and_ends_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on with the others."""
    (here / "job.py").write_text(JOB.replace('BAD = ""', 'BAD = "site-2"'), encoding="utf-8")
    assert run("job.py", "--clients", "3", "--json") == 0
    data = documents(capsys.readouterr().out)["data"]
    assert isinstance(data, dict)
    assert "disk is full" in data["failed_sites"]["site-2"]


def test_a_failed_run_has_its_status_its_folder_and_its_cause(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 6 for a quorum that was not reached, on standard error and in the document."""
    (here / "job.py").write_text(JOB.replace('BAD = ""', 'BAD = "site-2"'), encoding="utf-8")
    assert run("job.py", "--clients", "2") == 6
    err = capsys.readouterr().err
    assert "error: run mine-1 failed" in err
    assert "disk is full" in err
    assert (here / "flare-runs" / "mine-1" / "report.html").exists()
    assert run("job.py", "--clients", "2", "--json") == 6
    whole = documents(capsys.readouterr().out)
    assert (whole["ok"], whole["code"]) == (False, "quorum")
    assert isinstance(whole["data"], dict)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--client", "3"], "did you mean --clients?"),
        (["--nonsense"], "no such option: --nonsense"),
        (["--clients", "0"], "--clients"),
        (["--rounds", "0"], "--rounds"),
        (["--workers", "gpu"], "--workers"),
        (["--seed", "-1"], "--seed"),
        (["job.py", "--clients", "1"], "min_clients=2"),
        (["job.py", "--alpha", "0.5"], "no alpha"),
        (["missing.py"], "no such file"),
        (["--alpha", "nan"], "alpha=nan"),
        (["--clients", "5000"], "at most 719 sites"),
        (["job.py", "--workspace", "job.py"], "job.py"),
    ],
)
def test_what_cannot_be_used_is_exit_status_2(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The message names the option or field; as a document it is one line of JSON."""
    assert run_command_line(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert run_command_line([*arguments, "--json"]) == 2
    whole = documents(capsys.readouterr().out)
    assert (whole["ok"], whole["data"]) == (False, None)


def test_option_beats_variable_beats_project_file(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of precedence, from the last to the first."""

    def clients(*arguments: str) -> object:
        assert run("job.py", "--rounds", "1", "--json", *arguments) == 0
        data = documents(capsys.readouterr().out)["data"]
        return data["clients"] if isinstance(data, dict) else None

    assert clients() == 8
    (here / "pyproject.toml").write_text("[tool.flare-async]\nclients = 3\n")
    assert clients() == 3
    monkeypatch.setenv("FLARE_ASYNC_CLIENTS", "4")
    assert clients() == 4
    assert clients("--clients", "5") == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.flare-async]\nclient = 3\n", "did you mean clients?"),
        ("[tool.flare-async]\nclients = [3]\n", "list is no option's value"),
        ("[tool.flare-async]\nclients = 'x'\n", "not a valid integer"),
        ("[tool]\nflare-async = 3\n", "a table is needed"),
        ("[tool", "is no valid TOML"),
    ],
)
def test_a_project_file_with_a_mistake_is_exit_status_2(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    """The message says where and what."""
    (here / "pyproject.toml").write_text(text)
    assert run_command_line(["job.py"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_main_job_is_reproducible_and_compared(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs over different transports and workers have the same digest."""
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    digests = set()
    for way in ("inline memory", "thread unix", "inline tcp"):
        workers, transport = way.split()
        short = ["--json", "--rounds", "2", "--clients", "4"]
        assert run_command_line([*short, "--workers", workers, "--transport", transport]) == 0
        data = documents(capsys.readouterr().out)["data"]
        assert isinstance(data, dict)
        digests.add(data["model_digest"])
        assert data["single_site_accuracy"] < data["pooled_accuracy"]
        assert 0.4 < data["test_accuracy"] < 1.0
    assert len(digests) == 1
    assert "Test accuracy" in (here / "flare-runs" / "digits-1" / "report.html").read_text("utf-8")
    assert (here / "flare-runs" / "digits-1" / "learning_curve.png").stat().st_size > 1000


def test_help_has_examples_and_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    """A person finds their way from there."""
    assert run_command_line(["--help"]) == 0
    out = capsys.readouterr().out
    for option in ("clients", "rounds", "workers", "threads", "seed", "transport", "workspace"):
        assert f"--{option} " in out
    for part in ("--json", "--quiet", "--alpha", "Examples:", "FLARE_ASYNC_CLIENTS", "Exit status"):
        assert part in out


def test_a_bug_of_ours_is_exit_status_70(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody planned is reported as such, without a traceback."""

    def broken(*_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("flare_async.sim.play.write_report", broken)
    assert run("job.py", "--rounds", "1", "--clients", "2") == 70
    err = capsys.readouterr().err
    assert "error: unexpected IndexError" in err
    assert "please report it" in err
    assert "Traceback" not in err


def test_the_interrupt_handler_is_put_back(here: Path) -> None:
    """An embedding process keeps its own."""
    before = signal.getsignal(signal.SIGINT)
    assert run("job.py", "--rounds", "1", "--clients", "2", "--quiet") == 0
    assert signal.getsignal(signal.SIGINT) is before
