"""The trackers' own libraries find in their files what sites have logged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.client.data_types import AnalyticsDataType, make_record
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.feed import TrackedRun
from flare_async.jobs.trackers.mlflow_runs import MLflowTracker
from flare_async.jobs.trackers.tensorboard import OPEN_WRITERS, TensorBoardTracker
from flare_async.jobs.trackers.wandb_runs import WandBTracker
from flare_async.recipes import FedAvgRecipe, add_experiment_tracking
from tests.jobs.user_code import tracks

pytestmark = [
    pytest.mark.tracking,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("default"),  # the libraries' own
]
CALLS = [
    ("loss", np.float32(0.5), AnalyticsDataType.SCALAR, {"global_step": 3}),
    ("both", {"train": 1, "val": 2}, AnalyticsDataType.SCALARS, {"global_step": 4}),
    ("metrics", {"acc": 0.9}, AnalyticsDataType.METRICS, {}),
    ("metrics", {"acc": 0.95}, AnalyticsDataType.METRICS, {}),
    ("lr", 0.1, AnalyticsDataType.PARAMETER, {}),
    ("lr", 0.2, AnalyticsDataType.PARAMETER, {}),
    ("params", {"epochs": 2, "odd&key": "x"}, AnalyticsDataType.PARAMETERS, {}),
    ("notes/a.txt", "hello", AnalyticsDataType.TEXT, {"path": "notes/a.txt"}),
    ("stage", "test", AnalyticsDataType.TAG, {}),
    ("tags", {"x": 1}, AnalyticsDataType.TAGS, {}),
]


def rows(site="site-1"):
    """Return a row of every kind that writers make."""
    records = [make_record(key, value, kind, **more) for key, value, kind, more in CALLS]
    return [
        MetricRow(1.0, site, 0, one.key, one.value, one.kind, one.step, one.extra)
        for one in records
    ]


def play(path, kind, config=None):
    """Run two sites that track, with a tracker, and return the run."""
    model = {"w": np.zeros(3, np.float32)}
    recipe = FedAvgRecipe(model=model, train=tracks, min_clients=2)
    add_experiment_tracking(recipe, kind, config)
    return recipe.execute(SimEnv(num_clients=2, workspace_root=path, workers="inline"))


def feed(tracker, path, *more):
    """Give all rows to a tracker."""
    receiver = tracker.open(TrackedRun("run-1", "recipe", path))
    receiver.take(rows())
    receiver.take(more)
    receiver.close()


def events(folder):
    """Return (tag, step, value) of every scalar in TensorBoard's files."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 - documents who writes them

    found = []
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def test_tensorboard_finds_what_sites_track(tmp_path):
    """np.float32 numbers, one folder a site."""
    run = play(tmp_path, "tensorboard")
    for site in ("site-1", "site-2"):
        found = events(run.folder / "tb_events" / site)
        assert found == [("loss", 0, 0.0), ("loss", 1, 1.0), ("loss", 0, 10.0), ("loss", 1, 11.0)]


def test_tensorboard_takes_every_kind(tmp_path):
    """Numbers are scalars by their names, words are texts."""
    feed(TensorBoardTracker("here"), tmp_path)
    found = events(tmp_path / "here" / "site-1")
    assert ("both/train", 4, 1.0) in found
    tags = {tag for tag, _, _ in found}
    assert {"loss", "both/val", "metrics/acc", "lr", "params/epochs"} <= tags
    assert any(tag.startswith("notes/a.txt") for tag in tags)


def test_tensorboard_holds_few_files_open(tmp_path):
    """A thousand sites need no thousand threads; a site that comes back goes on."""
    receiver = TensorBoardTracker().open(TrackedRun("run-1", "recipe", tmp_path))
    for number in (*range(OPEN_WRITERS + 10), 0):
        receiver.take([MetricRow(0.0, f"site-{number}", 0, "k", number, "SCALAR")])
    assert len(receiver._writers) == OPEN_WRITERS
    receiver.close()
    assert len(events(tmp_path / "tb_events" / "site-0")) == 2


ODD = [
    *(
        (key, 1.0, "SCALAR")
        for key in ("..", "/", "a//b", "../../x", " a ", "\u00e9\u4e2d\u0000", "k" * 1024)
    ),
    *(("k", value, "SCALAR") for value in (math.nan, math.inf, -math.inf, 1e308, 2**63)),
    *(("k", value, "SCALARS") for value in ({}, {"": 1.0}, {"x": "word"}, {"..": 1.0, "/": 2.0})),
    *(("k", value, "PARAMETER") for value in (None, "", "x" * 20_000, [1, {"a": 2}], {"b": 1})),
    *(("p", value, "PARAMETERS") for value in ({"a/b": 1, "a//b": 2}, {"": 1}, {"x": None}, 5)),
    *(("t", value, "TAGS") for value in ({"mlflow.runName": "x"}, {"y" * 2000: 1}, "word", None)),
    *((key, "text", "TEXT") for key in ("a.txt", "a.txt/b.txt", "a", "/etc/x", "..", "c/../../d")),
    ("k", None, "SCALAR"),
    ("k", [1, 2], "IMAGE"),
    ("k", True, "INIT_DATA"),
    ("_wandb", {"x": 1}, "PARAMETERS"),
]


@pytest.mark.parametrize("make", [TensorBoardTracker, MLflowTracker, WandBTracker])
def test_nothing_that_a_site_may_send_makes_a_tracker_fail(make, tmp_path):
    """Whatever names, numbers and steps the server lets in; all files stay in the folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    receiver = make().open(TrackedRun("run-1", "recipe", folder))
    failed = []
    for step in (None, 2**63 - 1, -(2**63)):
        for key, value, kind in ODD:
            path = {"path": key} if kind == "TEXT" else {}
            try:
                receiver.take([MetricRow(1.0, "site-1", 0, key, value, kind, step, path)])
            except Exception as exc:  # noqa: BLE001 - all of them are wanted
                failed.append((key[:20], str(value)[:20], kind, step, repr(exc)[:200]))
    receiver.close()
    assert failed == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_mlflow_finds_what_sites_track(tmp_path):
    """One run a site, in a database of the run folder."""
    from mlflow.tracking import MlflowClient

    run = play(tmp_path, "mlflow", {"kw_args": {"experiment_name": "e", "run_name": "r"}})
    uri = f"sqlite:///{run.folder / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "e"]
    found = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == ["site-1-r", "site-2-r"]
    history = client.get_metric_history(found["site-1-r"].info.run_id, "loss")
    assert sorted(point.value for point in history) == [0.0, 1.0, 10.0, 11.0]
    assert found["site-1-r"].info.status == "FINISHED"


def test_mlflow_takes_every_kind(tmp_path):
    """A parameter that changes, which MLflow refuses, becomes a tag."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'other.db'}"
    tracker = MLflowTracker(uri, artifact_location=(tmp_path / "art").as_uri())
    feed(tracker, tmp_path)
    client = MlflowClient(uri, uri)
    (run,) = client.search_runs([client.get_experiment_by_name("recipe").experiment_id])
    assert run.data.params == {"lr": "0.1", "epochs": "2", "odd_key": "x"}
    assert {"lr": "0.2", "stage": "test", "x": "1", "job": "run-1"}.items() <= run.data.tags.items()
    assert {"loss": 0.5, "both/train": 1.0, "acc": 0.95}.items() <= run.data.metrics.items()
    assert [p.read_text() for p in (tmp_path / "art").rglob("a.txt")] == ["hello"]


def wandb_writes_all():
    """End wandb's own process, which writes a moment later than ``finish`` returns."""
    import wandb

    wandb.teardown()


def test_wandb_writes_offline_runs(tmp_path, monkeypatch):
    """A file a site, without a word to anybody."""
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    run = play(tmp_path, "wandb", {"wandb_args": {"project": "p", "tags": ["t"]}})
    wandb_writes_all()
    files = list(run.folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert all(b"loss" in path.read_bytes() for path in files)


def test_wandb_takes_every_kind(tmp_path):
    """Parameters, tags and texts too."""
    feed(WandBTracker(), tmp_path)
    wandb_writes_all()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = path.read_bytes()
    words = (b"both/val", b"epochs", b"hello", b"stage:test")
    assert [word for word in words if word not in data] == []
