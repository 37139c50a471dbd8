"""Simulated runs from outside: what bad input, bad sites and bad code get, and what is kept."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import (
    ConfigError,
    FlareError,
    QuorumNotReached,
    ResourceLimit,
    RunFailed,
    StartFailed,
    TensorFormatError,
    WorkspaceError,
)
from flare_async.jobs.events import RunFinished, RunStarted
from flare_async.limits import Limits
from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.files import read_file
from tests.sim import jobs_small
from tests.sim.jobs_small import SITES, recipe_of, run_of


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"num_clients": 0}, "num_clients"),
        ({"num_clients": -1}, "num_clients"),
        ({"num_clients": "8"}, "num_clients"),
        ({"num_clients": 2, "clients": ["a"]}, "num_clients"),
        ({"clients": []}, "clients"),
        ({"clients": ["a", "a"]}, "clients"),
        ({"clients": ["a/b"]}, "clients"),
        ({"clients": "a b"}, "clients"),
        ({"clients": ["a", 3]}, "clients"),
        ({"num_clients": 2, "num_threads": 0}, "num_threads"),
        ({"num_clients": 2, "workers": "fibre"}, "workers"),
        ({"num_clients": 2, "transport": "carrier pigeon"}, "transport"),
        ({"num_clients": 2, "seed": -1}, "seed"),
        ({"num_clients": 2, "seed": 1.5}, "seed"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(options, field):
    """The error names the argument and its value."""
    with pytest.raises(ConfigError) as caught:
        SimEnv(**options)
    assert caught.value.field == field


def test_an_unknown_option_is_refused_by_its_name():
    """A misspelt argument is never ignored."""
    with pytest.raises(TypeError, match="num_client"):
        SimEnv(num_client=2)


def test_more_clients_needed_than_there_are_is_refused_with_both_numbers(tmp_path):
    """Nothing is started and no folder made."""
    with pytest.raises(ConfigError, match=r"min_clients=9: exceeds the 4 clients.*at least 9"):
        run_of(recipe_of(min_clients=9), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_workspace_is_refused_with_its_path(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="file"):
        run_of(recipe_of(), tmp_path / "file")


def nothing(model, site):
    """Forget to return."""


def other_shape(model, site):
    """Return a tensor of another shape."""
    return FLModel(params={**model.params, "w": np.zeros(3, np.float32)})


def other_names(model, site):
    """Return a tensor that was not asked for, and lack one."""
    return FLModel(params={"w": model.params["w"], "extra": np.zeros(1)})


def not_finite(model, site):
    """Return what diverged."""
    return FLModel(params={**model.params, "w": model.params["w"] * np.nan})


def raising(model, site):
    """Fail as user code does."""
    raise RuntimeError("disk is full")


def a_dict(model, site):
    """Return params rather than a model."""
    return dict(model.params)


def bad_metric(model, site):
    """Return a metric that is no number."""
    return FLModel(params=model.params, metrics={"accuracy": "high"})


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        (nothing, "returned None, return an FLModel"),
        (a_dict, "returned dict, return an FLModel"),
        (other_shape, "'w'"),
        (other_names, "extra"),
        (not_finite, "tensor 'w'"),
        (raising, "RuntimeError: disk is full"),
        (bad_metric, "'accuracy'"),
    ],
)
def test_a_train_function_that_gives_no_model_fails_the_run_and_names_the_site(
    tmp_path, train, problem
):
    """With the cause in the status, the error, ``run.json`` and the history's folder."""
    run = run_of(recipe_of(train), tmp_path)
    assert (run.status, type(run.cause)) == ("failed", QuorumNotReached)
    assert problem in run.history.failed_sites()["site-1"]
    assert f"site-1: {run.history.failed_sites()['site-1']}" in str(run.cause)
    document = json.loads((run.folder / "run.json").read_text())
    assert (document["status"], document["cause"]["code"]) == ("failed", "quorum")
    assert (
        read_file(run.folder / "FL_global_model.safetensors").model_digest()
        == (document["model_digest"])
    )
    with pytest.raises(RunFailed, match=str(run.folder)) as caught:
        run.get_result()
    assert caught.value.__cause__ is run.cause


def test_a_failed_run_raises_unless_it_is_told_not_to(tmp_path):
    """``execute`` checks by default."""
    with pytest.raises(RunFailed, match="disk is full"):
        run_of(recipe_of(raising), tmp_path, check=True)


def test_a_failing_site_is_named_and_the_run_goes_on(tmp_path):
    """As long as the quorum holds."""
    recipe = recipe_of(jobs_small.failing, min_clients=3, train_config={"fails": ["site-3"]})
    run = run_of(recipe, tmp_path)
    assert run.status == "completed"
    [(site, reason)] = run.history.failed_sites().items()
    line = (
        f"{jobs_small.__file__}, line {jobs_small.failing.__code__.co_firstlineno + 3}, in failing"
    )
    assert (site, reason) == ("site-3", f"ValueError: no data at site-3 (at {line})")
    assert [record.arrived for record in run.history.rounds] == [3, 3]
    assert "site-3" in json.loads((run.folder / "run.json").read_text())["failed_sites"]
    lines = (run.folder / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [site["status"] for site in rows[0]["sites"]] == ["ok", "ok", "failed", "ok"]


def test_a_failing_site_gives_the_model_of_a_run_without_it(tmp_path):
    """What it sent, if anything, has touched nothing."""

    def diverges(model, site):
        result = jobs_small.numpy_train(model, site)
        if site.name == "site-4":
            result.params["w"][0, 0] = np.inf
        return result

    run = run_of(recipe_of(diverges, min_clients=3), tmp_path)
    without = run_of(recipe_of(min_clients=3), tmp_path, num_clients=3)
    assert run.model.model_digest() == without.model.model_digest()


def test_a_round_without_its_quorum_keeps_what_was_reached(tmp_path):
    """The first round's model and the history of both rounds are in the folder."""

    def fails_later(model, site):
        if site.round_number == 1 and site.index > 1:
            raise ValueError("gone")
        return jobs_small.numpy_train(model, site)

    run = run_of(recipe_of(fails_later, num_rounds=5), tmp_path)
    assert (run.status, run.cause.round_number) == ("failed", 1)
    assert [record.arrived for record in run.history.rounds] == [4, 2]
    assert len((run.folder / "history.jsonl").read_text().splitlines()) == 2
    kept = read_file(run.folder / "FL_global_model.safetensors").model_digest()
    assert kept == run.model.model_digest() != recipe_of().initial.model_digest()


def test_a_recipe_with_a_bug_of_its_own_fails_the_run(tmp_path):
    """Whatever it raises is the cause; the exit is orderly."""

    class Broken(FedAvgRecipe):
        async def coordinate(self, cohort):
            raise ZeroDivisionError("a bug")

    recipe = Broken(train=raising, model=jobs_small.numpy_model(), min_clients=4, name="broken")
    run = run_of(recipe, tmp_path)
    assert (run.status, repr(run.cause)) == ("failed", "ZeroDivisionError('a bug')")
    assert json.loads((run.folder / "run.json").read_text())["cause"]["code"] == "bug"


def test_a_folder_that_goes_away_fails_the_run(tmp_path):
    """A typed error, though nothing can be kept any more."""

    def observe(event):
        if isinstance(event, RunStarted):
            shutil.rmtree(event.folder)

    run = run_of(recipe_of(), tmp_path, observer=observe)
    assert (run.status, type(run.cause)) == ("failed", WorkspaceError)


def test_a_run_beyond_the_memory_limit_is_refused_before_it_starts(tmp_path):
    """The limit and the parts of the plan are named, and no site was started."""
    events = []
    limits = Limits(memory_bytes=1_000_000)
    run = run_of(recipe_of(), tmp_path, limits=limits, observer=events.append)
    assert (run.status, type(run.cause)) == ("failed", ResourceLimit)
    assert "1000000 allowed" in str(run.cause)
    assert "base" in str(run.cause)
    assert [type(event).__name__ for event in events] == ["MemoryPlanned", "RunFinished"]


def test_the_memory_plan_is_kept_with_the_run(tmp_path):
    """Parts and sum in bytes, beside the peak."""
    run = run_of(recipe_of(), tmp_path, check=True)
    document = json.loads((run.folder / "run.json").read_text())
    assert document["memory_plan"] == run.plan.document()
    assert {"base", "models", "accumulator"} <= set(document["memory_plan"]["parts"])
    assert run.plan.nbytes == sum(part.nbytes for part in run.plan.parts)


@pytest.mark.parametrize("transport", ["memory", "tcp", "unix"])
def test_an_observer_is_told_the_story_in_order(tmp_path, transport):
    """Begin, rounds with their sites, end; the same over every transport."""
    events = []
    run = run_of(recipe_of(), tmp_path, observer=events.append, transport=transport)
    kinds = [type(event).__name__ for event in events]
    assert (*kinds[:2], kinds[-1]) == ("MemoryPlanned", "RunStarted", "RunFinished")
    assert kinds.count("SiteStarted") == kinds.count("SiteFinished") == 8
    assert kinds.count("RoundStarted") == kinds.count("RoundFinished") == 2
    assert events[1].sites == tuple(SITES[:4])
    assert events[-1] == RunFinished("completed", "")
    assert events[1].folder == run.folder


def test_one_name_as_text_is_one_site():
    """Not a site a letter."""
    assert SimEnv(clients="alone").sites == ("alone",)


def test_sites_may_have_names_of_their_own(tmp_path):
    """They stand in the history in that order."""
    names = ["zurich", "amsterdam", "h.pital@lyon"]
    run = run_of(recipe_of(min_clients=3), tmp_path, num_clients=0, clients=names)
    assert [site.site for site in run.history.rounds[0].sites] == names


def test_a_run_folder_is_complete(tmp_path):
    """The files that the documentation names, and no other."""
    run = run_of(recipe_of(), tmp_path, check=True)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "FL_global_model.safetensors",
        "best_FL_global_model.safetensors",
        "history.jsonl",
        "run.json",
    ]
    document = json.loads((run.folder / "run.json").read_text())
    assert document["model_digest"] == run.model.model_digest()
    assert (document["seed"], document["clients"], document["rounds"]) == (7, 4, 2)


def test_errors_of_a_run_are_of_one_family():
    """Callers catch FlareError."""
    for kind in (QuorumNotReached, StartFailed, TensorFormatError, WorkspaceError, RunFailed):
        assert issubclass(kind, FlareError)
