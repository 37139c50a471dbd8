"""Some seeds of every scenario; ``python -m tests.simulation`` runs the many."""

from __future__ import annotations

import re

import pytest

from flare_async.testing.federation import SERVER, Crash, Federation, Leave, Setting
from flare_async.testing.scenario import play
from tests.simulation.runner import one_seed, run_chunk
from tests.simulation.scenarios import BY_NAME, SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SEEDS = range(1000, 1004)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scenario", BY_NAME)
def test_a_seed_is_clean(scenario, seed):
    """S1-S11 and L1 hold, whatever goes wrong."""
    verdict = one_seed(scenario, seed)
    assert not verdict.violations, verdict.setting.line()


@pytest.mark.parametrize("scenario", ["cuts", "crashes", "sums"])
def test_a_seed_replays_to_the_step(scenario):
    """Two runs have the same trace and the same evidence; another seed has another trace."""
    first, again, other = (one_seed(scenario, seed, trace=True) for seed in (7, 7, 9))
    assert first.trace_hash == again.trace_hash != other.trace_hash
    assert first.evidence.story == again.evidence.story
    assert first.evidence.kept == again.evidence.kept


def test_tracing_changes_nothing():
    """The story of a seed is the same without its trace."""
    assert one_seed("cuts", 3).evidence.story == one_seed("cuts", 3, trace=True).evidence.story


def test_a_chunk_of_seeds_is_counted():
    """A process that is given seeds tells how many it ran, and how many rounds were kept."""
    tally = run_chunk(("late", range(1100, 1102)))
    assert (tally.seeds, tally.failed) == (2, [])
    assert tally.rounds >= 2


def test_every_scenario_has_both_modes_and_says_what_it_is():
    """Odd seeds are liveness; what is drawn is told in one line."""
    for scenario in SCENARIOS:
        assert scenario.about.endswith(".")
        assert [scenario.setting(seed).mode for seed in (0, 1)] == ["safety", "liveness"]
        assert re.match(f"scenario='{scenario.name}' ", scenario.setting(0).line())


def test_a_crashed_server_goes_on_with_the_round_that_was_kept():
    """F19: what was committed before is in the chain of models, once."""
    setting = Setting(sites=3, incidents=(Crash(at=2.5, host=SERVER, back=1.0),), seed=5)
    verdict = play(setting)
    kept = verdict.evidence.kept
    assert verdict.clean
    assert [one.number for one in kept] == [0, 1, 2]
    assert [one.after for one in kept[:2]] == [one.before for one in kept[1:]]
    assert "server starts, life 2" in [what for _, what in verdict.evidence.story]


def test_the_model_without_faults_is_the_same_for_every_way_of_passing_it_on():
    """S11: splicing, caching and reducing relays, and none, give the same bits."""
    models = set()
    for seed, (relays, mode) in enumerate(
        [(0, "splice"), (2, "splice"), (2, "cache"), (2, "reduce")]
    ):
        verdict = play(Setting(seed=seed, relays=relays, relay_mode=mode))
        assert verdict.clean
        models.add(verdict.evidence.kept[-1].after)
    assert len(models) == 1


def test_f41_a_federation_that_nobody_has_joined_yet_waits_and_begins():
    """Nobody at first, one in a round, all leave and come back: every round is kept, in time."""
    names = [f"site-{number}" for number in range(6)]
    joins = tuple((name, 5.0 if at else 9.5) for at, name in enumerate(names))
    leaves = tuple(Leave(at=13.0, host=name, back=6.0) for name in names)
    setting = Setting(
        mode="liveness",
        sites=6,
        late=joins,
        incidents=leaves,
        quorum=3,
        deadline=8.0,
        seconds=(0.5, 4.0),
        heal=20.0,
    )
    verdict = play(setting)
    begins = [when for when, what in verdict.evidence.story if what == "round 0 try 0 begins"]
    assert verdict.clean
    assert begins[0] >= 5.0
    assert [kept.number for kept in verdict.evidence.kept] == [0, 1, 2]
    assert len(verdict.evidence.kept[-1].sites) == 6


def test_a_federation_is_told_what_it_is():
    """The evidence carries the setting that it was made of."""
    setting = Setting(seed=3)
    assert Federation(setting).evidence.setting is setting
