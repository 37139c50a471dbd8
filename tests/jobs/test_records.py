"""What sites track arrives in the run, its folder and its trackers, from every kind of worker."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.jobs.records import MetricRow, RunMetrics
from flare_async.jobs.records_post import RecordPost
from flare_async.jobs.records_travel import packed_records, read_records
from flare_async.jobs.records_values import make_record
from flare_async.jobs.site import Site, SiteInfo
from flare_async.recipes import FedAvgRecipe
from flare_async.roles.log_record import AnalyticsDataType, LogRecord
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


def test_rows_in_memory_are_bounded_in_bytes():
    """The oldest go; the count of all stays."""
    metrics = RunMetrics(nbytes=100)
    for value in range(50):
        metrics.add(MetricRow(0.0, "a", 0, "k", value, "SCALAR"), 10)
    assert [row.value for row in metrics.rows] == list(range(40, 50))
    assert (metrics.total, len(metrics)) == (50, 10)
    assert metrics.of("k", "b") == []


def test_a_mapping_has_a_number_for_each_of_its_names():
    """As add_scalars gives it; what is no number is left out."""
    row = MetricRow(
        0.0, "a", 0, "loss", {"train": 1, "val": 0.5, "note": "x", "ok": True}, "SCALARS"
    )
    assert row.numbers() == {"loss/train": 1.0, "loss/val": 0.5}


def test_a_line_holds_what_json_cannot():
    """NaN becomes null, as in history.jsonl."""
    row = MetricRow(0.5, "a", 0, "loss", math.nan, "SCALAR", extra={"x": 1})
    assert json.loads(row.line()) == {
        "at_s": 0.5,
        "site": "a",
        "round": 0,
        "key": "loss",
        "value": None,
        "kind": "SCALAR",
        "step": None,
        "extra": {"x": 1},
    }


@pytest.mark.parametrize(
    "value",
    [1, 1.0, np.float32(1), np.int64(1), np.array(1), Decimal(1), True, "1"],
    ids=lambda value: type(value).__name__ + str(np.ndim(value)),
)
def test_a_number_is_whatever_float_takes(value):
    """A NumPy number is no reason to lose a metric."""
    assert make_record("k", value, AnalyticsDataType.SCALAR, global_step=np.int64(3)) == LogRecord(
        "k", 1.0, "SCALAR", 3
    )


@pytest.mark.parametrize(
    ("value", "kind", "options"),
    [
        ("much", "SCALAR", {}),
        (np.ones(2), "METRIC", {}),
        ({"x": None}, "SCALARS", {}),
        (1.0, "METRICS", {}),
        (1.0, "NOISE", {}),
        (1.0, "SCALAR", {"global_step": 1.5}),
        (object(), "IMAGE", {}),
    ],
)
def test_what_cannot_be_logged_is_refused_by_its_key(value, kind, options):
    """The message says which of a script's many metrics it was."""
    with pytest.raises(ConfigError, match="my-loss"):
        make_record("my-loss", value, kind, **options)


@pytest.mark.parametrize("key", ["", 3, None, "x" * 2000])
def test_a_key_is_a_text(key):
    """Neither nothing nor something else."""
    with pytest.raises(ConfigError, match="key"):
        make_record(key, 1.0, "SCALAR")


def test_words_keep_their_types_where_they_can():
    """A parameter may be anything; what is not plain becomes its text or number."""
    values = {"a": 1, "b": "x", "c": np.float32(0.5), "d": np.int64(7), "e": slice(3), "f": [1]}
    record = make_record("params", values, "PARAMETERS")
    kept = {"a": 1, "b": "x", "c": 0.5, "d": 7, "e": "slice(None, 3, None)", "f": [1]}
    assert record.value == kept


def test_tracking_outside_of_a_run_checks_only():
    """A train function can be called by hand."""
    site = Site(SiteInfo(name="a"), {})
    site.track("loss", np.float32(1))
    with pytest.raises(ConfigError, match="loss"):
        site.track("loss", None)


RECORDS = st.builds(
    LogRecord,
    st.text(),
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.lists(st.text(), max_size=2),
    st.sampled_from([str(kind) for kind in AnalyticsDataType]),
    st.none() | st.integers(0, 9),
    st.dictionaries(st.text(), st.integers(0, 9), max_size=2),
)


@given(st.lists(RECORDS, max_size=3))
def test_records_of_a_process_come_back_as_they_were(records):
    """Through the plain values of its message."""
    assert repr(read_records(packed_records(records))) == repr(tuple(records))


JUNK = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["SCALAR"]),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, 2), inner, max_size=2)
    ),
)


@given(JUNK)
def test_junk_of_a_process_raises_typed_errors_only(junk):
    """A worker runs user code, so nothing that it says is believed."""
    try:
        read_records(junk)
    except (TypeError, ConfigError):
        return


@pytest.mark.asyncio
async def test_the_post_keeps_the_order_of_each_thread():
    """Many threads hand over; each one's records arrive in its order, all on the loop."""
    came = []
    post = RecordPost(lambda site, record: came.append((site, record.value)))

    def talk(site):
        for value in range(200):
            post(site, LogRecord("k", value, "SCALAR"))

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0)
    post.flush()
    for site in "abc":
        assert [value for who, value in came if who == site] == list(range(200))


def test_the_post_is_harmless_when_its_loop_is_closed():
    """An abandoned thread may outlive the run."""

    async def make():
        return RecordPost(lambda site, record: None)

    post = asyncio.run(make())
    post("a", LogRecord("k", 1.0, "SCALAR"))
    assert list(post._waiting) == []
