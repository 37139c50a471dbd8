"""What the server's books of a swarm are good for: the best model, who is away, who lets go."""

from __future__ import annotations

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from flare_async.limits import Limits
from flare_async.recipes import ClientCyclicRecipe
from flare_async.recipes.peer_desk import AtDesk, PeerDesk
from flare_async.testing import Freeze
from tests.recipes.swarm_world import SITES, played, world
from tests.recipes.test_swarm_losses import Losing, recipe

BEST = "best_FL_global_model.safetensors"


def nearness(model, site):
    """Evaluate a model: the one after the first round is the best of a swarm."""
    del site
    return {"accuracy": -abs(float(model.params["w"][0]) - 2.5)}


class LosingHolders(Losing):
    """Loses whoever aggregated the first two rounds when the n-th aggregator is asked."""

    def __call__(self, task, site):
        """Take note of a desk's task."""
        if task == self.name:
            for _ in range(self.places.count(self.seen)):
                self.lost.append(self.made.run.history.rounds[len(self.lost)].aggregator)
                self.made.lose(self.lost[-1])
            self.seen += 1


def told(sim, made_of, losing, what, **options):
    """Play a recipe and return what its world knows then, with the logs."""

    async def main():
        async with world(made_of, asked=losing, **options) as made:
            losing.made = made
            return await what(made, await played(made, made_of))

    with capture_logs() as logs:
        return sim(main), logs


async def best_models(made, cohort):
    """Return the best model of each site that has one in its files, and the best of the history."""
    names = [site for site in SITES if f"{site}/{BEST}" in made.disk.files]
    return {site: (await made.model(site, BEST))[0] for site in names}, cohort.history.best()


def test_the_best_model_outlives_its_holders_one_by_one(sim):
    """Where one is lost, another site holds it before the next round."""
    losing = LosingHolders("peer_round", 3, 6)
    (found, best), logs = told(sim, recipe(num_rounds=8, evaluate=nearness), losing, best_models)
    assert found == {site: 2.5 for site in SITES if site not in losing.lost}
    assert (len(losing.lost), best.version) == (2, 1)
    assert "best_model_lost" not in {line["event"] for line in logs}


def test_a_best_model_that_is_lost_is_the_best_no_more(sim):
    """The sites keep the best one of those that are left, and the last one, and it is told."""
    losing = LosingHolders("peer_round", 4, 4)
    (found, best), logs = told(sim, recipe(num_rounds=8, evaluate=nearness), losing, best_models)
    [line] = [line for line in logs if line["event"] == "best_model_lost"]
    assert (line["version"], best.version) == (1, 5)
    assert sorted(found) == sorted(set(SITES) - set(losing.lost))
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("places", [(0,), (0, 0)], ids=["one", "both"])
def test_the_last_model_is_kept_whoever_leaves_with_the_best(sim, places):
    """Its holders go when they are to write it down: the others have the last one."""
    losing = LosingHolders("peer_keep", *places)
    made_of = recipe(num_rounds=6, evaluate=nearness)

    async def last_models(made, _):
        left = [site for site in SITES if site not in losing.lost]
        return [await made.model(site) for site in left], await best_models(made, _)

    (models, (found, _)), logs = told(sim, made_of, losing, last_models)
    assert len(models) == 4 - len(places)
    assert models == models[:1] * len(models)
    assert bool(found) is (len(places) == 1)
    assert "swarm_models_not_kept" in {line["event"] for line in logs}


def test_a_cycle_has_its_best_model_at_two_sites_as_well(sim):
    """Whoever made it is lost in the round after the one in which it was judged."""
    made_of = recipe(ClientCyclicRecipe, num_rounds=3, evaluate=nearness_to_ten, order="FIXED")
    losing = Losing("peer_turn", 10)
    losing.victim = lambda made: "site-4"
    (found, best), _ = told(sim, made_of, losing, best_models)
    assert (best.version, found) == (1, dict.fromkeys(SITES[:3], 10.0))


def nearness_to_ten(model, site):
    """Evaluate a model: the one after the first round is the best of a cycle."""
    del site
    return {"accuracy": -abs(float(model.params["w"][0]) - 10)}


def test_a_site_that_is_away_is_missed_in_every_round(sim):
    """In the history, as by FedAvg, in ``swarm.jsonl``, and where the models are kept."""
    losing = Losing("peer_round", 2)
    losing.victim = lambda made: "site-2"

    async def rows(made, cohort):
        text = made.disk.files["swarm.jsonl"].decode()
        return cohort.history.rounds, [json.loads(line) for line in text.splitlines()]

    (rounds, lines), logs = told(sim, recipe(num_rounds=5), losing, rows)
    reasons = [{one.site: one.reason for one in record.sites}["site-2"] for record in rounds]
    assert reasons[3:] == ["is not connected"] * 2
    assert [line["without"] for line in lines[-3:]] == [{"site-2": "is not connected"}] * 3
    warned = [line["round"] for line in logs if line["event"] == "swarm_sites_failed"]
    assert warned[-2:] == [3, 4]


def test_an_aggregator_whose_word_never_comes_holds_no_more_with_every_round(sim, monkeypatch):
    """What it made and nobody knows of is let go when it is told what is needed."""
    honest, held = AtDesk.round, []

    async def dumb(at, task):
        result = await honest(at, task)
        if at.desk.setting.site == "site-3":
            held.append(at.desk.models.versions)
            await asyncio.sleep(100)
        return result

    monkeypatch.setattr(PeerDesk, "parts", {**PeerDesk.parts, "peer_round": dumb})
    made_of = recipe(num_rounds=16, progress_timeout=20)

    async def rounds(made, cohort):
        del made
        return {record.aggregator for record in cohort.history.rounds}

    assert "site-3" not in told(sim, made_of, Losing("never"), rounds)[0]
    assert len(held) > 3
    assert max(map(len, held)) == 2


def test_a_silent_holder_of_an_old_model_holds_nobody_up(sim):
    """It is asked to let go for a heartbeat's time; the rounds end while its session lives."""
    silent = (Freeze(site="site-4", at=3.5),)
    made_of = recipe(num_rounds=4, round_timeout=10.0)

    async def rounds(made, cohort):
        del made
        return [(record.arrived, record.ended) for record in cohort.history.rounds]

    found, _ = told(sim, made_of, Losing("never"), rounds, faults=silent)
    assert [arrived for arrived, _ in found] == [4, 4, 3, 3]
    assert found[-1][1] < 4 * 10 + 4 * Limits().heartbeat_interval
