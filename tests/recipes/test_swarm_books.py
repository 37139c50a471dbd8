"""What the server's books of a swarm are good for: best models, who is away, who lets go of what."""

from __future__ import annotations

import asyncio
import json

import pytest

from flare_async.limits import Limits
from flare_async.recipes import ClientCyclicRecipe, FedAvgRecipe, SwarmRecipe
from flare_async.recipes.peer_desk import AtDesk, PeerDesk
from flare_async.testing import Freeze
from tests.recipes.swarm_world import SITES, played, world
from tests.recipes.test_swarm_losses import Losing, recipe

BEST = "best_FL_global_model.safetensors"
FIRST_MEAN = [2.5] * 8


def nearness(model, site):
    """Evaluate a model: the one after the first round is the best."""
    del site
    return {"accuracy": -abs(float(model.params["w"][0]) - FIRST_MEAN[0])}


class Holders(Losing):
    """Loses the aggregators of the first two rounds when the n-th aggregator is asked."""

    def __call__(self, task, site):
        """Take note of a desk's task."""
        if task == self.name:
            for place in [place for place in self.places if place == self.seen]:
                self.places = self.places[self.places.index(place) + 1 :]
                self.lost.append(self.made.run.history.rounds[len(self.lost)].aggregator)
                self.made.lose(self.lost[-1])
            self.seen += 1


def told(sim, capture, made_of, losing, what, **options):
    """Play a recipe and return what was asked of its world, with the logs."""

    async def main():
        async with world(made_of, asked=losing, **options) as made:
            losing.made = made
            return await what(made, await played(made, made_of))

    with capture() as logs:
        return sim(main), logs


async def best_models(made, _):
    """Return the best model of each site that has one, as its files say."""
    files = {site: f"{site}/{BEST}" for site in SITES}
    return {site: await made.model(site, BEST) for site in SITES if files[site] in made.disk.names}
