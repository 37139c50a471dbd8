"""The writers turn the calls of three libraries into records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.client.api import APIContext
from flare_async.client.tracking import MLflowWriter, SummaryWriter, WandBWriter
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe
from tests.client.desks import ListDesk


@pytest.fixture
def desk():
    """Return a desk that keeps records."""
    return ListDesk("train")


def seen(desk):
    """Return what the desk was told."""
    return [(one.key, one.value, one.kind, one.step) for one in desk.records]


def test_summary_writer_writes_scalars(desk):
    """With NumPy numbers and with or without a step."""
    writer = SummaryWriter(APIContext(desk, 0))
    writer.add_scalar("loss", np.float32(0.5), 3)
    writer.add_scalar("loss", 1, note="x")
    writer.add_scalars("both", {"a": np.int64(1), "b": 2.5}, global_step=np.int64(4))
    writer.flush()
    writer.close()
    assert seen(desk) == [
        ("loss", 0.5, "SCALAR", 3),
        ("loss", 1.0, "SCALAR", None),
        ("both", {"a": 1.0, "b": 2.5}, "SCALARS", 4),
    ]
    assert desk.records[1].extra == {"note": "x"}


def test_mlflow_writer_writes_what_mlflow_knows(desk):
    """Parameters and tags keep their types."""
    writer = MLflowWriter(APIContext(desk, 0))
    writer.log_param("lr", 0.1)
    writer.log_params({"epochs": 2})
    writer.log_metric("acc", np.float64(0.9), step=1)
    writer.log_metrics({"a": 1}, 2)
    writer.log_text("hello", "notes/a.txt")
    writer.set_tag("stage", "x")
    writer.set_tags({"y": 1})
    assert seen(desk) == [
        ("lr", 0.1, "PARAMETER", None),
        ("params", {"epochs": 2}, "PARAMETERS", None),
        ("acc", 0.9, "METRIC", 1),
        ("metrics", {"a": 1.0}, "METRICS", 2),
        ("notes/a.txt", "hello", "TEXT", None),
        ("stage", "x", "TAG", None),
        ("tags", {"y": 1}, "TAGS", None),
    ]
    assert desk.records[4].extra == {"path": "notes/a.txt"}


def test_wandb_writer_writes_metrics(desk):
    """As a mapping, with its step."""
    WandBWriter(APIContext(desk, 0)).log({"loss": np.float32(0.25)}, step=7)
    assert seen(desk) == [("metrics", {"loss": 0.25}, "METRICS", 7)]


@pytest.mark.parametrize("value", [None, "much", np.ones(3), [1]])
def test_what_is_no_number_is_refused_by_its_name(desk, value):
    """A metric that disappears silently is worse than an error."""
    with pytest.raises(ConfigError, match="my-loss"):
        SummaryWriter(APIContext(desk, 0)).add_scalar("my-loss", value, 1)
    with pytest.raises(ConfigError, match="my-loss"):
        WandBWriter(APIContext(desk, 0)).log({"my-loss": value})
    assert desk.records == []


def test_writers_work_on_rank_0_only(desk):
    """As every other call that talks to the server."""
    with pytest.raises(RuntimeError, match="rank 0"):
        SummaryWriter(APIContext(desk, 1)).add_scalar("loss", 1.0)


@pytest.mark.parametrize("external", [False, True], ids=["thread", "process"])
def test_everything_that_a_script_logs_arrives(tmp_path, external):
    """Its last words too, which come when the job has ended."""
    recipe = FedAvgRecipe(
        model={"w": np.zeros(3, np.float32)},
        train_script=Path(__file__).parent / "scripts" / "tracking_client.py",
        launch_external_process=external,
        min_clients=2,
        num_rounds=3,
    )
    run = recipe.execute(SimEnv(num_clients=2, num_threads=2, workspace_root=tmp_path))
    counts = Counter((row.site, row.key) for row in run.metrics.rows)
    one = {"rate": 1, "loss": 3, "sent": 3, "end": 1}
    assert counts == {(site, key): n for site in ("site-1", "site-2") for key, n in one.items()}
    assert [row.value for row in run.metrics.of("loss", "site-1")] == [0.0, 1.0, 2.0]
    assert run.metrics.dropped == {}
