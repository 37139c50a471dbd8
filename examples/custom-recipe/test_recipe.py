"""The recipe in virtual time: an hour at a slow site passes in milliseconds.

Run it with ``pytest`` in this folder.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from flare_async import FLModel, Run, SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.site import Site
from flare_async.testing import run_sim

sys.path.insert(0, str(Path(__file__).parent))
from recipe import FitRecipe

LOSSES = (1.0, 2.0, 4.0)


async def train(model: FLModel, site: Site) -> FLModel:
    """Return the site's number; the last of four sites takes an hour for it."""
    await asyncio.sleep(3600 if site.index == 3 else 1)
    said = {"loss": LOSSES[site.index]} if site.index < 3 else {"loss": 1.0}
    new = np.full(2, site.index + 1.0)
    return FLModel(params={"w": new}, metrics=said, meta=said)


def play(tmp_path: Path, clients: int, min_clients: int) -> Run:
    """Run one round in virtual time."""
    recipe = FitRecipe(model={"w": np.zeros(2)}, train=train, min_clients=min_clients, num_rounds=1)
    env = SimEnv(num_clients=clients, workers="inline", num_threads=4, workspace_root=tmp_path)

    async def main() -> Run:
        return await recipe.run(env)

    return run_sim(main)


def test_the_mean_is_weighted_by_the_inverse_loss(tmp_path: Path) -> None:
    """1/1, 1/2 and 1/4 of three sites."""
    run = play(tmp_path, clients=3, min_clients=3)
    expected = (1 * 1 + 0.5 * 2 + 0.25 * 3) / (1 + 0.5 + 0.25)
    np.testing.assert_allclose(run.model.numpy()["w"], expected)
    assert run.history.rounds[0].metrics == {"loss": pytest.approx(7 / 3)}


def test_a_slow_site_is_left_out_after_a_minute(tmp_path: Path) -> None:
    """The round ends with the three that are enough."""
    run = play(tmp_path, clients=4, min_clients=3)
    statuses = {record.site: str(record.status) for record in run.history.rounds[0].sites}
    assert statuses == {"site-1": "ok", "site-2": "ok", "site-3": "ok", "site-4": "late"}
    assert run.history.rounds[0].seconds == pytest.approx(60, abs=1)


def test_too_few_sites_fail_the_run_with_their_names(tmp_path: Path) -> None:
    """Four are needed, three come within the minute."""
    with pytest.raises(RunFailed, match="site-4"):
        play(tmp_path, clients=4, min_clients=4)
