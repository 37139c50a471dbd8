"""Which trackers a recipe takes, and what one that is slow does to a run: nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.records import MetricRow
from flare_async.jobs.tracking import MOST_ROWS, TrackedRun, TrackerFeed
from flare_async.jobs.tracking_steps import Steps
from flare_async.limits import Limits
from flare_async.recipes import FedAvgRecipe, add_experiment_tracking

ROW = MetricRow(0.0, "a", 0, "loss", 1.0, "SCALAR")
LIBRARIES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def recipe():
    """Return a small recipe."""
    model = {"w": np.zeros(3, np.float32)}
    return FedAvgRecipe(model=model, train=lambda model, site: model, min_clients=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("excel",), "tensorboard, mlflow, wandb"),
        (("tensorboard", {"folder": "x"}), "tb_folder"),
        (("tensorboard", {"tb_folder": "../x"}), "tb_folder"),
        (("tensorboard", {"tb_folder": ""}), "tb_folder"),
        (("mlflow", {"kw_args": {"runs": 1}}), "experiment_name"),
        (("mlflow", {"kw_args": 5}), "tracking_config"),
        (("wandb", {"mode": "sometimes"}), "offline"),
        (("wandb", {"wandb_args": {"resume": True}}), "project"),
        (("tensorboard", None, True), "client_side"),
        (("tensorboard", None, False, False), "server_side"),
    ],
)
def test_what_cannot_be_tracked_is_refused_with_what_can(arguments, named):
    """Before anything is started, and whether or not the library is there."""
    with pytest.raises(ConfigError, match=named):
        add_experiment_tracking(recipe(), *arguments)


@pytest.mark.parametrize("kind", LIBRARIES)
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, kind):
    """The extra has them all."""
    monkeypatch.setitem(sys.modules, LIBRARIES[kind], None)
    made = recipe()
    with pytest.raises(MissingExtra, match=r"flare-async\[tracking\]"):
        add_experiment_tracking(made, kind)
    assert made.trackers == []


def test_rows_without_a_step_are_counted_by_site_and_key():
    """Those with one keep it."""
    steps = Steps()
    rows = [("a", None), ("a", None), ("b", None), ("a", 7), ("a", None)]
    found = [steps.of(MetricRow(0.0, site, 0, "k", 1.0, "SCALAR", step)) for site, step in rows]
    assert found == [0, 1, 0, 7, 2]


class Slow:
    """A tracker whose calls wait until they are let go."""

    name = "slow"

    def __init__(self, *, stuck):
        self.stuck, self.free, self.taken, self.closed = stuck, threading.Event(), [], False

    def check(self):
        """Have nothing to miss."""

    def open(self, run):
        """Be its own receiver."""
        return self

    def take(self, rows):
        """Wait, then keep rows."""
        if self.stuck == "take":
            self.free.wait(10)
        self.taken += rows

    def close(self):
        """Note the end."""
        self.closed = True


def feed_of(tracker, **limits):
    """Return the feed of one tracker."""
    return TrackerFeed(tracker, TrackedRun("run", "recipe", Path()), Limits(**limits))


@pytest.mark.asyncio
async def test_a_tracker_that_stands_still_is_given_up():
    """Its thread is abandoned after stall_timeout; rows are counted, and nothing waits."""
    tracker = Slow(stuck="take")
    feed = feed_of(tracker, stall_timeout=1.0)
    feed.put([ROW] * 3)
    feed.finish()
    await feed.run()
    feed.put([ROW])
    tracker.free.set()
    assert (feed.failed, feed.dropped) == ("take: took more than 1 s", 4)


@pytest.mark.asyncio
async def test_a_queue_that_is_full_drops_the_oldest_rows():
    """A bounded queue, and a count of what it cost."""
    tracker = Slow(stuck="")
    feed = feed_of(tracker)
    rows = [MetricRow(0.0, "a", 0, "k", value, "SCALAR") for value in range(MOST_ROWS + 5)]
    feed.put(rows)
    feed.finish()
    await feed.run()
    assert (tracker.taken, feed.dropped, feed.taken) == (rows[5:], 5, MOST_ROWS)


@pytest.mark.asyncio
async def test_an_aborted_run_still_closes_its_tracker():
    """Event files are complete whatever the run's end."""
    tracker = Slow(stuck="")
    feed = feed_of(tracker)
    task = asyncio.get_running_loop().create_task(feed.run())
    feed.put([ROW])
    while not tracker.taken:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracker.closed
