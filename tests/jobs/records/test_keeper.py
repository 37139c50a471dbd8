"""What sites track arrives in the run, its folder and its trackers, from every kind of worker."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.records import keeper
from flare_async.jobs.store import FolderStore
from flare_async.recipes import FedAvgRecipe
from flare_async.roles.log_messages import Logged
from flare_async.roles.log_record import LogRecord
from tests.jobs.user_code import tracks, tracks_and_fails


def recipe(train=tracks, **options):
    """Return a small recipe."""
    options = {"model": {"w": np.zeros(3, np.float32)}, "num_rounds": 2, "min_clients": 2} | options
    return FedAvgRecipe(train=train, **options)


def play(path, train=tracks, *, trackers=(), check=True, recipe_options=None, **options):
    """Run it and return the run."""
    made = recipe(train, **(recipe_options or {}))
    made.trackers.extend(trackers)
    env = SimEnv(num_clients=2, workspace_root=path, **options)
    return made.execute(env, check=check)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": "inline"},
        {"workers": "thread"},
        {"workers": "process", "num_threads": 1},
        {"workers": "inline", "transport": "tcp"},
        {"workers": "inline", "relays": 1},
        {"workers": "inline", "relays": 1, "relay_mode": "reduce"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_what_a_function_tracks_is_in_the_run_and_its_folder(tmp_path, options):
    """Each site tracks its round and a NumPy number, twice a round."""
    run = play(tmp_path, **options)
    rows = [row.row() for row in run.metrics.rows]
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert sorted(map(str, rows)) == sorted(str(json.loads(line)) for line in lines)
    seen = sorted((row["site"], row["round"], row["value"], row["step"]) for row in rows)
    values = [
        (f"site-{k}", r, float(10 * r + s), s) for k in (1, 2) for r in (0, 1) for s in (0, 1)
    ]
    assert seen == values
    assert run.metrics.latest("loss") == {"site-1": 11.0, "site-2": 11.0}


def test_a_run_without_records_has_no_file(tmp_path):
    """Nobody pays for what nobody uses."""
    run = play(tmp_path, lambda model, site: model, workers="inline")
    assert (len(run.metrics), (run.folder / "metrics.jsonl").exists()) == (0, False)


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_what_was_tracked_before_a_failure_is_kept(tmp_path, workers):
    """A failed run is where the numbers are wanted most."""
    run = play(tmp_path, tracks_and_fails, check=False, workers=workers, num_threads=1)
    assert run.status == "failed"
    assert run.metrics.latest("loss")["site-1"] == 1.5


class Keeps:
    """A tracker that keeps what it gets, or raises at a step."""

    name = "keeps"

    def __init__(self, fails=""):
        self.fails, self.rows, self.threads, self.steps = fails, [], set(), []

    def check(self):
        """Have nothing to miss."""

    def open(self, run):
        """Be its own receiver."""
        self.step("open")
        return self

    def take(self, rows):
        """Keep rows."""
        self.step("take")
        self.rows += rows
        self.threads.add(threading.current_thread() is threading.main_thread())

    def close(self):
        """Note the end."""
        self.step("close")

    def step(self, name):
        """Note a step, and fail at the one that was asked for."""
        self.steps.append(name)
        if name == self.fails:
            raise OSError(f"no {name}")


def test_a_tracker_gets_every_row_in_a_thread(tmp_path):
    """And it is opened and closed once."""
    tracker = Keeps()
    run = play(tmp_path, trackers=[tracker], workers="inline")
    assert tracker.rows == list(run.metrics.rows)
    assert tracker.threads == {False}
    assert (tracker.steps[0], tracker.steps[-1]) == ("open", "close")


@pytest.mark.parametrize("step", ["open", "take", "close"])
def test_a_tracker_that_fails_fails_nothing_else(tmp_path, step):
    """The run is completed, and the other tracker has everything."""
    bad, good = Keeps(step), Keeps()
    run = play(tmp_path, trackers=[bad, good], workers="inline")
    assert run.status == "completed"
    assert len(good.rows) == run.metrics.total == 8


def test_trackers_close_when_the_run_fails(tmp_path):
    """What was tracked is there, and the run's own error is what is raised."""
    tracker = Keeps()
    with pytest.raises(RunFailed):
        play(tmp_path, tracks_and_fails, trackers=[tracker], workers="inline")
    assert [row.value for row in tracker.rows if row.site == "site-1"] == [1.5]
    assert tracker.steps[-1] == "close"


def test_a_site_that_floods_the_file_leaves_room_for_the_others(tmp_path, monkeypatch):
    """Its share is a quarter of what is left; memory and trackers go on."""
    monkeypatch.setattr(keeper, "FILE_BYTES", 20_000)
    run = play(tmp_path, lambda model, site: model, workers="inline")
    kept = keeper.RecordKeeper(run, FolderStore(run.folder), [], 0.0)
    flood = [Logged("bad", 0, 0.0, LogRecord("k", "x" * 400, "TEXT"))]
    good = [Logged("good", 0, 0.0, LogRecord("k", 1.0, "SCALAR"))]

    async def take():
        for _ in range(100):
            await kept.take("bad", flood, 0)
        await kept.take("good", good, 3)

    asyncio.run(take())
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    sites = [line["site"] for line in lines]
    assert 5 < sites.count("bad") < 10
    assert lines[-1] == {"site": "good", "dropped": 3}
    assert run.metrics.dropped == {"good": 3}
    assert (run.metrics.total, sites.count("good")) == (101, 2)
