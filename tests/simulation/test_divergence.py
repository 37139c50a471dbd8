"""The report of a failing seed: how to replay it, and where it leaves a run that passes."""

from __future__ import annotations

import pytest

from flare_async.testing.divergence import first_divergence, report_of, twin_of
from flare_async.testing.federation import Crash, CutLinks, Setting
from flare_async.testing.scenario import play
from tests.simulation.runner import command_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NEVER_BACK = Crash(at=1.0, host="site-1")
HARMLESS = CutLinks(at=1.2, host="site-0")


def needs_all():
    """Return a verdict that fails because of one of two incidents: a steady site is killed."""
    setting = Setting(
        scenario="made",
        sites=3,
        rounds=1,
        quorum=1,
        incidents=(HARMLESS, NEVER_BACK),
        steady=frozenset({"site-1"}),
    )
    return play(setting)


def test_two_stories_part_at_the_first_line_that_differs():
    """The lines before are shown, and a story that is over is said to be."""
    found = first_divergence(["a", "b", "c", "d"], ["a", "b", "x"])
    assert (found.at, found.before, found.failing, found.passing) == (2, ("a", "b"), "c", "x")
    assert first_divergence(["a"], ["a"]) is None
    assert "is over" in str(first_divergence(["a"], []))


def test_the_twin_is_the_run_without_what_matters():
    """Without the crash it passes; without the cut it does not."""
    failing = needs_all()
    twin = twin_of(failing)
    assert {one.invariant for one in failing.violations} == {"S5"}
    assert twin.verdict.clean
    assert "without Crash(" in twin.how


def test_the_stories_part_where_the_crash_happens():
    """Up to then the two runs are the same, step by step."""
    failing = needs_all()
    stories = [[what for _, what in v.evidence.story] for v in (failing, twin_of(failing).verdict)]
    assert first_divergence(*stories).failing == "site-1 dies"


def test_a_report_has_all_that_is_needed():
    """Seed, command, options, violation, divergence, the story's end and the pending tasks."""
    report = report_of(needs_all(), command_of("made", 0))
    for part in (
        "made seed 0 fails",
        "python -m tests.simulation --scenario made --seed 0",
        "S5: site-1 failed in round 0",
        "sites=3 rounds=1 quorum=1",
        "it passes without Crash(at=1.0, host='site-1'",
        "failing: site-1 dies",
        "where its tasks waited:",
        "Acceptor._accept",
    ):
        assert part in report
