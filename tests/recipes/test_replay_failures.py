"""Replays in which tasks fail, and streams of sites that all fail: by the hand of the clock."""

from __future__ import annotations

import json

import anyio
import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.recipes import AsyncFedAvgRecipe, FedBuffRecipe
from flare_async.testing import run_sim
from tests.recipes.async_sites import first, moved, timed

SLOW = {"site-1": {"seconds": 2.0}, "site-2": {"seconds": 1.0}}


async def timed_at_the_second_try(model, site):
    """Do as ``timed``, but fail after as many seconds, once before each task."""
    tried = site.state.setdefault("tried", set())
    if site.round_number not in tried:
        tried.add(site.round_number)
        await anyio.sleep(site.config.get("seconds", 1.0))
        raise RuntimeError("not yet")
    return await timed(model, site)


def env(folder):
    """Return an environment of two sites that work side by side."""
    return SimEnv(num_clients=2, num_threads=2, workers="inline", seed=5, workspace_root=folder)


def recorded(folder, parts):
    """Write versions of one update each; return the file."""
    rows = [
        {"version": at, "updates": [dict(zip(("site", "task", "from"), part, strict=True))]}
        for at, part in enumerate(parts, 1)
    ]
    path = folder / "recorded.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def played(folder, train, parts, least=2):
    """Return the run of a replay."""
    recipe = AsyncFedAvgRecipe(
        model=first(),
        train=train,
        min_clients=least,
        num_rounds=len(parts),
        per_site_config=SLOW,
        replay=recorded(folder, parts),
    )

    async def main():
        return await recipe.run(env(folder))

    return run_sim(main)


@pytest.mark.parametrize("late", ["site-1", "site-2"])
def test_a_replay_asks_again_who_failed_while_all_others_wait_for_it(tmp_path, late):
    """Nobody else has anything to do before its update is there, so nobody else wakes it."""
    early = {"site-1": "site-2", "site-2": "site-1"}[late]
    parts = [(late, 0, 0), (early, 0, 0), (late, 1, 1), (early, 1, 2)]
    run = played(tmp_path, timed_at_the_second_try, parts)
    assert run.model.model_digest() == played(tmp_path, timed, parts).model.model_digest()
    assert len(run.history.rounds) == len(parts)


def failing(model, site):
    """Fail at all sites but the first."""
    if site.index:
        raise RuntimeError(f"no data at {site.name}")
    return moved(model, site)


def test_sites_that_all_fail_are_named_with_their_reasons(tmp_path):
    """How many are left, of how many, how many are needed, and why the others are not asked."""
    recipe = FedBuffRecipe(model=first(), train=failing, min_clients=2, num_rounds=9)
    with pytest.raises(RunFailed, match="no data at site-2") as caught:
        recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path))
    said = "after 5 updates 1 of 2 sites have not failed 3 times in a row, 2 are needed; failed: "
    assert f"{said}site-2" in str(caught.value)
    assert "updates arrived, quorum" not in str(caught.value)


def test_a_replay_that_cannot_go_on_says_what_is_missing(tmp_path):
    """One site never brings what the record has, and one that works is enough otherwise."""

    async def fails_at_last(model, site):
        if site.name == "site-2":
            raise RuntimeError("no data")
        return await timed(model, site)

    parts = [("site-1", 0, 0), ("site-2", 0, 0)]
    with pytest.raises(RunFailed, match="version 2 lacks task 0 of site-2 from version 0; failed"):
        played(tmp_path, fails_at_last, parts, least=1)
