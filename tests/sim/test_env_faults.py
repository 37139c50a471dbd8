"""Faults between the server and the sites of a simulated run, in real time."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe
from flare_async.testing import BitFlip, Cut, Delay, OneWayCut, ResetInFrame, Slice

SIZE = 50_000


def train(model, site):
    """Add the site's own numbers."""
    return FLModel(params={"w": model.params["w"] + site.rng.normal(size=SIZE)})


def play(tmp_path, *faults, **options):
    """Run two rounds with three sites."""
    recipe = FedAvgRecipe(model={"w": np.zeros(SIZE)}, min_clients=3, num_rounds=2, train=train)
    env = SimEnv(num_clients=3, seed=5, workspace_root=tmp_path, faults=faults, **options)
    return recipe.execute(env)


def digest(run):
    """Return the digest of the last model."""
    return run.model.model_digest()


@pytest.mark.parametrize(
    "faults",
    [
        (Delay(0.01, jitter=0.01), Slice(20_000)),
        (Cut(after_bytes=100_000, site="site-2"),),
        (ResetInFrame("payload", 2, site="site-1"), BitFlip(1000, payload=True, sites=["site-3"])),
    ],
    ids=["slow", "cut", "damaged"],
)
def test_faults_change_no_bit_of_the_model(tmp_path, faults):
    """S11: the same participants give the same model with faults as without."""
    faulty = play(tmp_path, *faults)
    assert digest(faulty) == digest(play(tmp_path))
    assert [row["arrived"] for row in faulty.history.rows()] == [3, 3]


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_any_kind_of_worker_runs_behind_faulty_links(tmp_path, workers):
    """Only the transport is simulated, and the run's file says so."""
    run = play(tmp_path, Delay(0.005), workers=workers)
    assert digest(run) == digest(play(tmp_path, workers=workers))
    text = (run.folder / "run.json").read_text("utf-8")
    assert json.loads(text)["transport"] == "sim"


async def takes_a_second(model, _):
    """Train for longer than it takes to connect and to be cut off."""
    await asyncio.sleep(1.2)
    return FLModel(params=model.params)


@pytest.mark.slow
def test_a_site_that_cannot_be_heard_is_late(tmp_path):
    """The deadline closes the round with those that can."""
    recipe = FedAvgRecipe(
        model={"w": np.zeros(9)},
        min_clients=2,
        num_rounds=1,
        train=takes_a_second,
        round_timeout=2.0,
    )
    fault = OneWayCut("up", 1.0, site="site-3")
    env = SimEnv(num_clients=3, num_threads=3, workspace_root=tmp_path, faults=[fault])
    (row,) = recipe.execute(env).history.rows()
    assert {site["site"]: site["status"] for site in row["sites"]}["site-3"] == "late"
    assert row["arrived"] == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"faults": [Delay(1)], "transport": "tcp"}, "transport"),
        ({"faults": [Delay(1, site="site-4")]}, "faults"),
        ({"faults": ["slow"]}, "faults"),
    ],
)
def test_faults_that_cannot_be_are_refused(options, field):
    """Before anything is started."""
    with pytest.raises(ConfigError) as caught:
        SimEnv(num_clients=3, **options)
    assert caught.value.field == field
