"""Swarms that lose sites, in virtual time: who aggregates then, and from which model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from flare_async.errors import QuorumNotReached
from flare_async.limits import Limits
from flare_async.recipes import ClientCyclicRecipe, SwarmRecipe
from flare_async.recipes.peer_desk import AtDesk, PeerDesk
from flare_async.testing import BitFlip, Cut, Delay, Freeze, ResetInFrame, Slice
from tests.recipes.swarm_world import SITES, first_model, played, steps, swarm_mean, world


def recipe(cls=SwarmRecipe, **options):
    """Return a recipe with the usual arguments."""
    usual = {"model": first_model(), "train": steps, "min_clients": 2, "num_rounds": 3}
    return cls(**{**usual, **options})


class Losing:
    """Loses the site that is the n-th to get a task of this name, or a ``victim``, as it comes."""

    victim = None

    def __init__(self, name, *places):
        self.name, self.places, self.seen, self.lost, self.made = name, places, 0, [], None

    def __call__(self, task, site):
        """Take note of a desk's task."""
        if task == self.name:
            if self.seen in self.places:
                site = site if self.victim is None else self.victim(self.made)
                self.lost.append(site)
                self.made.lose(site)
            self.seen += 1


def play(sim, made_of, losing, **options):
    """Play a recipe while sites are lost; return its history, logs and a site's files."""

    async def main():
        async with world(made_of, asked=losing, **options) as made:
            losing.made = made
            try:
                cohort = await played(made, made_of)
            except QuorumNotReached as exc:
                return exc, [], []
            left = [site for site in SITES if site not in losing.lost]
            models = [await made.model(site) for site in left]
            held = [client.shelf._offers for client in made.clients.values()]
            return cohort.history, models, held

    with capture_logs() as logs:
        return *sim(main), logs


def test_nothing_is_lost_without_a_loss(sim):
    """The reference of the others: all sites have the mean of all rounds, and hold nothing."""
    history, models, held, _ = play(sim, recipe(), Losing("never"))
    assert models == [swarm_mean([(), (), ()])] * 4
    assert [record.arrived for record in history.rounds] == [4, 4, 4]
    assert held == [{}] * 4


@pytest.mark.parametrize(
    ("faults", "what"),
    [
        ((Delay(0.02, jitter=0.02), Slice(20_000)), ""),
        ((Cut(after_bytes=200_000, site="site-2"),), "session_resumed"),
        (
            (ResetInFrame("payload", 2, site="site-1"), BitFlip(900, payload=True)),
            "session_resumed",
        ),
    ],
    ids=["slow", "cut", "damaged"],
)
def test_faults_of_links_change_no_bit(sim, faults, what):
    """S11: what passes two links is resumed, and mended, on either."""
    big = recipe(model={"w": np.zeros(50_000, np.float32)})
    history, models, _, logs = play(sim, big, Losing("never"), faults=faults)
    assert all(model == swarm_mean([(), (), ()])[:1] * 50_000 for model in models)
    assert [record.arrived for record in history.rounds] == [4, 4, 4]
    assert not what or what in [line["event"] for line in logs]


def test_an_aggregator_that_is_lost_is_replaced_and_its_round_repeated(sim):
    """The others go on from the same model, which two sites had."""
    losing = Losing("peer_round", 1)
    history, models, _, logs = play(sim, recipe(), losing)
    gone = (SITES.index(losing.lost[0]),)
    assert models == [swarm_mean([(), gone, gone])] * 3
    assert [record.number for record in history.rounds] == [0, 1, 2]
    assert losing.lost[0] not in [record.aggregator for record in history.rounds[1:]]
    [failed] = [line for line in logs if line["event"] == "peer_failed"]
    assert (failed["site"], failed["round"]) == (losing.lost[0], 1)


def test_a_holder_that_is_lost_is_replaced_by_who_holds_the_model_too(sim):
    """One that was an aggregator goes when it is told to let go of an old model."""
    losing = Losing("peer_drop", 0)
    history, models, _, logs = play(sim, recipe(num_rounds=4), losing)
    assert len(models) == 3
    assert all(model == models[0] for model in models)
    assert {record.number for record in history.rounds} == {0, 1, 2, 3}
    [line] = [line for line in logs if line["event"] == "swarm_models_not_kept"]
    assert list(line["sites"]) == losing.lost


def test_the_last_model_is_made_again_when_its_only_holder_is_lost(sim):
    """The last round is repeated without it, from the model that another site still has."""
    losing = Losing("peer_hold", 0)
    losing.victim = lambda made: made.run.history.rounds[-1].aggregator
    history, models, _, logs = play(sim, recipe(), losing)
    gone = (SITES.index(losing.lost[0]),)
    assert models == [swarm_mean([(), (), gone])] * 3
    assert [record.number for record in history.rounds] == [0, 1, 2, 2]
    [line] = [line for line in logs if line["event"] == "model_lost"]
    assert (line["version"], line["again_from"]) == (3, 2)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_site_that_keeps_nothing_is_named(sim, at):
    """Lost while the models are handed out: the others have them."""
    losing = Losing("peer_keep", at)
    _, models, _, logs = play(sim, recipe(), losing)
    assert models == [swarm_mean([(), (), ()])] * 3
    [line] = [line for line in logs if line["event"] == "swarm_models_not_kept"]
    assert list(line["sites"]) == losing.lost


def test_too_few_sites_end_the_run(sim):
    """Three of four aggregators are lost: ``min_clients`` is out of reach."""
    failed, *_ = play(sim, recipe(), Losing("peer_round", 0, 1, 2))
    assert isinstance(failed, QuorumNotReached)
    assert (failed.arrived, failed.quorum) == (0, 2)


def test_a_site_that_is_lost_in_its_turn_is_passed_over(sim):
    """The model that it was given is still where it came from."""
    losing = Losing("peer_turn", 1)
    history, models, held, _ = play(sim, recipe(ClientCyclicRecipe, num_rounds=2), losing)
    others = sum(number + 1 for number in range(4) if number != 1)
    assert models == [[others + 2.0 * others] * 8] * 3
    assert [record.arrived for record in history.rounds] == [3, 3]
    assert held[0] == {}


class Asked:
    """Takes note of who was asked first to aggregate."""

    lost = ()
    first = ""

    def __call__(self, task, site):
        """Take note of a desk's task."""
        if task == "peer_round":
            self.first = self.first or site


@pytest.mark.parametrize(("key", "value"), [("sites", '[["nobody", 0]]'), ("ref", "nonsense")])
def test_an_aggregator_whose_answer_is_none_is_replaced(sim, monkeypatch, key, value):
    """The round is repeated elsewhere, and the run goes on without what it says."""
    asked, honest = Asked(), AtDesk.round

    async def dishonest(at, task):
        told = await honest(at, task)
        lies = at.desk.setting.site == asked.first and task.round_number == 0
        return replace(told, meta={**told.meta, key: value}) if lies else told

    monkeypatch.setattr(PeerDesk, "parts", {**PeerDesk.parts, "peer_round": dishonest})
    history, models, _, logs = play(sim, recipe(), asked)
    [line] = [line for line in logs if line["event"] == "peer_failed"]
    assert (line["site"], line["round"]) == (asked.first, 0)
    assert models[0] == swarm_mean([(), (), ()])
    assert history.rounds[0].aggregator != asked.first


def test_a_site_that_comes_back_under_a_new_session_takes_part_again(sim):
    """Its grant comes with the session, and in time it aggregates, too."""
    frozen = (Freeze(site="site-2", at=2.0, heals=25.0),)
    limits = Limits(session_grace=5, heartbeat_interval=1, send_timeout=4, retry_cap=4)
    made = recipe(num_rounds=24)
    history, models, held, _ = play(sim, made, Losing("never"), faults=frozen, limits=limits)
    statuses = [{one.site: str(one.status) for one in r.sites} for r in history.rounds]
    missed = [number for number, row in enumerate(statuses) if row.get("site-2") != "ok"]
    assert missed
    assert statuses[-1]["site-2"] == "ok"
    assert models == models[:1] * 4
    expected = swarm_mean([(1,) if number in missed else () for number in range(24)])
    np.testing.assert_allclose(models[0], expected, rtol=1e-6)  # float32, and thirds
    assert "site-2" in {record.aggregator for record in history.rounds[missed[-1] :]}
    assert held == [{}] * 4
