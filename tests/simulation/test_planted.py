"""FAULTS F: a journal that checks, awaits the disk and marks then is found to count twice."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from flare_async.testing.federation import Setting
from flare_async.testing.scenario import play
from flare_async.transfer.shelf import Shelf
from tests.simulation.ablations import Ablation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SEEDS = range(40)


def journalling(seed, kind):
    """Return a small federation whose journal hears of every contribution twice."""
    return Setting(seed=seed, sites=4, rounds=2, values=50, seconds=(0.05, 0.3), journal=kind)


@cache
def failing(kind):
    """Return the seeds in which an invariant breaks, and which."""
    verdicts = {seed: play(journalling(seed, kind)) for seed in SEEDS}
    return {
        seed: {one.invariant for one in verdict.violations}
        for seed, verdict in verdicts.items()
        if verdict.violations
    }


def test_the_planted_duplicate_is_found_and_the_right_order_is_not_accused():
    """Some seeds in a hundred see it, as S1; the journal that marks first is clean in all."""
    found = failing("checks then awaits")
    assert 0 < len(found) < len(SEEDS) / 2
    assert set.union(*found.values()) == {"S1"}
    assert failing("marks first") == {}


@pytest.mark.parametrize("trace", [True, False])
def test_the_planted_duplicate_is_replayed_to_the_step(trace):
    """The same seed breaks the same way, by the same steps, with a trace and without."""
    setting = journalling(min(failing("checks then awaits")), "checks then awaits")
    first, again = play(setting, trace=True), play(setting, trace=trace)
    assert first.violations == again.violations != ()
    assert first.evidence.story == again.evidence.story
    assert not trace or first.trace_hash == again.trace_hash


def test_control_that_is_never_answered_is_found():
    """S4: an answer that does not come at all is later than any bound."""
    find = vars(Shelf)["_find"]

    def find_or_say_nothing(self, channel, key):
        return None if key == "probe" else find(self, channel, key)

    changes = ((Shelf, "_find", find_or_say_nothing),)
    setting = Setting(sites=2, rounds=1, values=50, probes=True, seconds=(2.0, 3.0))
    with Ablation("answers", "whoever asks is answered", "jitter", changes).off():
        broken = {one.invariant for one in play(setting).violations}
    assert broken == {"S4", "S8"}  # the channels of the questions are left as well
    assert play(setting).clean


def test_a_round_that_takes_too_long_after_all_is_healed_is_found():
    """L1: with tasks longer than the bound the end comes too late, and nothing else is wrong."""
    setting = Setting(mode="liveness", sites=2, rounds=1, values=50, heal=1.0)
    verdict = play(dataclasses.replace(setting, seconds=(230.0, 240.0)))
    assert [one.invariant for one in verdict.violations] == ["L1"]
    assert play(setting).clean
