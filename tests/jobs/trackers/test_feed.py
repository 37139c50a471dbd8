"""Which trackers a recipe takes, and what one that is slow does to a run: nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.feed import MOST_FAILURES, MOST_NUMBERS, TrackedRun, TrackerFeed
from flare_async.jobs.trackers.steps import Steps
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


def test_series_that_are_counted_are_bounded(monkeypatch):
    """A site may name as many as it likes; further ones stand at their round."""
    monkeypatch.setattr("flare_async.jobs.trackers.steps.MOST_SERIES", 2)
    steps = Steps()
    rows = [MetricRow(0.0, "a", 5, key, 1.0, "SCALAR") for key in "xyzxz"]
    assert [steps.of(row) for row in rows] == [0, 0, 5, 1, 5]


class Slow:
    """A tracker whose calls wait until they are let go."""

    name = "slow"

    def __init__(self, *, stuck):
        self.stuck, self.free, self.taken, self.closed = stuck, threading.Event(), [], False
        self.began = False

    def check(self):
        """Have nothing to miss."""

    def open(self, run):
        """Be its own receiver."""
        return self

    def take(self, rows):
        """Wait, then keep rows."""
        self.began = True
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
    rows = [MetricRow(0.0, "a", 0, "k", value, "SCALAR") for value in range(MOST_NUMBERS + 5)]
    feed.put(rows)
    feed.finish()
    await feed.run()
    assert (tracker.taken, feed.dropped, feed.taken) == (rows[5:], 5, MOST_NUMBERS)


@pytest.mark.asyncio
@pytest.mark.parametrize("stuck", ["", "take"])
async def test_an_aborted_run_still_closes_its_tracker(stuck):
    """Event files are complete whatever the run's end; a call under way may end first."""
    tracker = Slow(stuck=stuck)
    feed = feed_of(tracker)
    task = asyncio.get_running_loop().create_task(feed.run())
    feed.put([ROW])
    while not tracker.began:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    tracker.free.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tracker.taken, tracker.closed) == ([ROW], True)


def test_a_tracker_that_never_comes_back_keeps_nobody_waiting():
    """Neither the loop's end nor the program's: its thread is none that is joined."""
    tracker = Slow(stuck="take")

    async def main():
        feed = feed_of(tracker, stall_timeout=1.0)
        feed.put([ROW])
        feed.finish()
        await feed.run()
        return feed.failed

    try:
        assert asyncio.run(main()) == "take: took more than 1 s"
        (thread,) = [one for one in threading.enumerate() if one.name == "tracker slow"]
        assert thread.daemon
    finally:
        tracker.free.set()


class Picky(Slow):
    """Raises what it was given for the rows of some sites."""

    def __init__(self, error, *sites):
        super().__init__(stuck="")
        self.error, self.sites, self.calls = error, sites, 0

    def take(self, rows):
        """Take the rows of good sites."""
        self.calls += 1
        if rows[0].site in self.sites:
            raise self.error
        super().take(rows)


def rows_of(*sites):
    """Return a row for each."""
    return [MetricRow(0.0, site, 0, "k", 1.0, "SCALAR") for site in sites]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [OSError("no"), TimeoutError("no"), SystemExit(1)])
async def test_a_site_whose_rows_cannot_be_taken_costs_the_others_nothing(error):
    """After three failures it is left out; the tracker goes on."""
    tracker = Picky(error, "bad")
    feed = feed_of(tracker)
    feed.put(rows_of(*["bad", "a", "bad", "b"] * 5))
    feed.finish()
    await feed.run()
    assert [row.site for row in tracker.taken] == ["a", "b"] * 5
    assert (feed.failed, feed.dropped, tracker.calls, tracker.closed) == ("", 10, 13, True)


@pytest.mark.asyncio
async def test_a_tracker_that_takes_nothing_from_anybody_is_ended():
    """A store that is gone costs a few calls, not one a row."""
    sites = [f"s{k}" for k in range(20)]
    tracker = Picky(OSError("gone"), *sites)
    feed = feed_of(tracker)
    feed.put(rows_of(*sites))
    feed.finish()
    await feed.run()
    assert feed.failed == "take: OSError: gone"
    assert (tracker.calls, feed.dropped, tracker.closed) == (MOST_FAILURES, 20, True)


@pytest.mark.asyncio
async def test_a_row_of_many_numbers_counts_as_many():
    """What a call takes, and what waits, is bounded whatever the rows look like."""
    tracker = Picky(None)
    feed = feed_of(tracker)
    value = {str(k): 1.0 for k in range(2000)}
    feed.put([MetricRow(0.0, "a", k, "k", value, "SCALARS") for k in range(10)])
    feed.finish()
    await feed.run()
    assert [row.round_number for row in tracker.taken] == [5, 6, 7, 8, 9]
    assert (tracker.calls, feed.dropped) == (5, 5)
