"""Prints the hashes of one virtual run; arguments: payload, whether steps are traced, junk."""

from __future__ import annotations

import sys

import numpy as np

from flare_async.recipes import FedAvgRecipe
from flare_async.sim.virtual import VirtualSetting, play_virtual
from flare_async.sim.virtual.networks import read_profile
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel


def train(model, site):
    """Return what came."""
    return model


def main(payload: str, trace: str, junk: str) -> None:
    """Play twelve sites behind two relays, with jitter, losses and drop-outs."""
    kept = [object() for _ in range(int(junk))]
    recipe = FedAvgRecipe(
        name="story",
        model={"w": np.zeros(50_000, np.float32)},
        num_rounds=2,
        min_clients=3,
        round_timeout=300.0,
        train=train,
    )
    setting = VirtualSetting(
        clients=12,
        relays=2,
        profile=read_profile("4g"),
        trainer=TrainerModel(Spread(20.0, 60.0), crash=0.1),
        dropout=0.1,
        payload=payload,
        seed=11,
        trace=trace == "traced",
    )
    run = play_virtual(recipe, setting)
    assert len(kept) == int(junk)
    print(run.trace_hash, run.step_hash or "-", run.seconds.hex())


if __name__ == "__main__":
    main(*sys.argv[1:])
