"""FAULTS F: a journal that checks, awaits the disk and marks then is found to count twice."""

from __future__ import annotations

from functools import cache

import pytest

from flare_async.testing.federation import Setting
from flare_async.testing.scenario import play

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
