"""What a run leaves on standard output."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from flare_async.errors import ConfigError, QuorumNotReached, RunFailed
from flare_async.jobs.history import History
from flare_async.sim.facts import Extras
from flare_async.sim.failure import failure_of
from flare_async.sim.summary import document, print_summary, run_data
from tests.sim.story import NASTY, extras, facts, history

KEYS = {
    *("run_id", "status", "recipe", "rounds", "clients", "seed", "model_digest", "metrics"),
    *("history", "wall_s", "round_s_median", "client_round_us", "bytes_down", "bytes_up"),
    *("peak_rss_mb", "folder", "failed_sites", "memory_plan"),
}


def test_the_document_of_a_run_has_the_promised_fields(tmp_path: Path) -> None:
    """All of them and those of the job, in one line of JSON."""
    text = document(run_data(facts(tmp_path, history()), extras()), None)
    whole = json.loads(text)
    assert "\n" not in text
    assert (whole["schema"], whole["ok"], whole["code"], whole["error"]) == (1, True, "ok", None)
    assert set(whole["data"]) == KEYS | {"test_accuracy"}
    assert whole["data"]["metrics"] == {"accuracy": 0.7, "loss": 0.5}
    assert len(whole["data"]["history"]) == whole["data"]["rounds"] == 3


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    """A strict parser reads the document whatever the metrics are."""
    made = history()
    made.models[-1] = type(made.models[-1])(3, {"a": float("nan"), "b": float("-inf")}, best=False)
    text = document(run_data(facts(tmp_path, made), Extras()), None)
    whole = json.loads(text, parse_constant=pytest.fail)
    assert whole["data"]["metrics"] == {"a": None, "b": None}


def test_a_failed_run_shows_the_code_of_its_cause(tmp_path: Path) -> None:
    """Data is what was reached; the error has the message and the causes."""
    cause = QuorumNotReached(1, 1, 2, {"site-2": "broken"})
    error = RunFailed("r-1", str(cause), str(tmp_path))
    error.__cause__ = cause
    failure = failure_of(error)
    data = run_data(facts(tmp_path, history(bad="broken"), status="failed"), Extras())
    whole = json.loads(document(data, failure))
    assert (whole["ok"], whole["code"], failure.status) == (False, "quorum", 6)
    assert whole["error"]["cause"] == [f"QuorumNotReached: {cause}"]
    assert whole["data"]["failed_sites"] == {"site-4": "broken"}


def test_a_hint_is_not_said_twice() -> None:
    """The message of a configuration error ends with its hint; the lines show it once."""
    lines = list(failure_of(ConfigError("rounds", 0, "too few", "use 1 or more")).lines())
    assert lines == ["error: rounds=0: too few", "hint: use 1 or more"]


def test_a_cause_that_says_more_is_shown() -> None:
    """And one that the message already contains is not."""
    error = ConfigError("job", "job.py", "loading it failed")
    error.__cause__ = ValueError("three is no string")
    assert "  because: ValueError: three is no string" in list(failure_of(error).lines())
    error.__cause__ = ValueError("loading it failed")
    assert len(list(failure_of(error).lines())) == 1


def test_an_unexpected_error_is_a_bug_of_ours() -> None:
    """Exit status 70, and a request to report it."""
    failure = failure_of(KeyError("x"))
    assert (failure.code, failure.status) == ("bug", 70)
    assert "report" in failure.hint


def test_a_ring_of_causes_ends() -> None:
    """Two errors that name each other do not hang the process."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert failure_of(one).cause == ("ValueError: other",)


def test_the_table_names_models_folder_and_what_to_try(tmp_path: Path) -> None:
    """A person finds everything in it."""
    out = io.StringIO()
    print_summary(facts(tmp_path, history()), extras(), out)
    text = out.getvalue()
    for part in ("digits-1: completed", "after 3 rounds", "federated", "94.0 %", str(tmp_path)):
        assert part in text
    assert "python -m flare_async.sim --alpha 0.1" in text
    assert "\x1b" not in text


def test_foreign_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """No markup is interpreted, no escape sequence passes."""
    out = io.StringIO()
    made = history(bad=f"{NASTY} [bold]x[/bold]")
    print_summary(facts(tmp_path, made, status="failed"), Extras(), out)
    assert "\x1b" not in out.getvalue()
    assert "[bold]x[/bold]" in out.getvalue()


def test_a_run_without_a_round_has_a_table(tmp_path: Path) -> None:
    """Nothing is assumed about how far a run came."""
    out = io.StringIO()
    print_summary(facts(tmp_path, History(), status="failed"), Extras(), out)
    assert "run.json" in out.getvalue()
