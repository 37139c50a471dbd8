"""F42 and F44 in small: drop-outs in every round, and a soak whose books are closed on the way."""

from __future__ import annotations

import pytest

from tests.simulation.dropouts import DROP_OUTS, dropping, run, told
from tests.simulation.soak import Mark, slope, soak, soaking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("share", DROP_OUTS)
def test_f42_every_round_ends_whatever_part_drops_out(share):
    """A tenth, a third, a half: with 1.3 times as many asked, all rounds are kept."""
    setting = dropping(40, 6, share)
    verdict, seconds = run(setting)
    assert not verdict.violations
    assert [kept.number for kept in verdict.evidence.kept] == list(range(6))
    assert all(setting.quorum <= len(kept.sites) <= setting.size for kept in verdict.evidence.kept)
    assert "6 of 6 rounds kept" in told(verdict, seconds)


def test_f44_a_soak_judges_and_forgets_what_is_over():
    """What is remembered in the end is of the last rounds only, and nothing broke."""
    verdict, marks = soak(soaking(8, 12), every=4)
    assert not verdict.violations
    assert [mark.rounds for mark in marks] == [4, 8]
    assert {kept.number for kept in verdict.evidence.kept} == {7, 8, 9, 10, 11}
    assert min(one.number for one in verdict.evidence.told) == 7


def test_f44_growth_is_the_slope_of_memory():
    """Two hundredths in a hundred rounds are told as such; noise around a level is none."""
    growing = [Mark(100 * n, 100_000 + 2_000 * n, 5) for n in range(10)]
    level = [Mark(100 * n, 100_000 + 10 * (n % 2), 5) for n in range(10)]
    assert slope(growing) == pytest.approx(2_000 / 111_000, rel=0.02)
    assert abs(slope(level)) < 1e-4
    assert slope(growing[:1]) == 0.0
