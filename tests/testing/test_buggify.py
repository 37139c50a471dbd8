"""Unlikely things happen where a simulation asks for them, and nowhere else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flare_async.limits import Limits
from flare_async.net.backoff import Backoff
from flare_async.net.rng import SeededRandom, SystemRandom
from flare_async.testing import buggify
from flare_async.testing.buggify import POINTS, BuggyRandom
from flare_async.testing.federation import Setting
from flare_async.testing.scenario import play

PACKAGE = Path(buggify.__file__).resolve().parents[1]


@pytest.mark.parametrize("port", [SystemRandom(), SeededRandom(1), BuggyRandom(1)])
def test_nothing_unlikely_happens_unless_it_is_asked_for(port):
    """The real port, the seeded one, and a buggy one without a chance say no."""
    assert not any(port.buggify(point) for point in POINTS for _ in range(50))


def test_points_are_at_work_in_some_runs_and_strike_now_and_then():
    """About a chance of all runs has a point; where it is at work, it strikes a quarter."""
    strikes = [
        sum(BuggyRandom(seed, chance=0.5).buggify("no pause") for _ in range(1))
        for seed in range(400)
    ]
    assert 20 <= sum(strikes) <= 80
    assert any(not hits for hits in strikes)


def test_hosts_agree_on_the_points_and_draw_for_themselves():
    """One counter has all strikes, and a host's draws are its own."""
    struck = Counter()
    one, other = (BuggyRandom(3, host, chance=1.0, struck=struck) for host in "ab")
    draws = [[port.buggify("tiny window") for _ in range(64)] for port in (one, other)]
    assert draws[0] != draws[1]
    assert struck == {"tiny window": sum(map(sum, draws))}
    assert one.stream("x").random() != other.stream("x").random()
    assert one.once("x").random() == BuggyRandom(3, "a").once("x").random()


def test_a_pause_may_have_no_length():
    """The point in the back-off gives 0 and counts the try."""
    backoff = Backoff(BuggyRandom(0, chance=1.0), "dial", Limits().retry_cap)
    pauses = [backoff.pause() for _ in range(20)]
    assert pauses.count(0.0) >= 1
    assert backoff.tries == 20


def test_every_point_of_the_product_is_listed_and_every_one_listed_is_there():
    """``POINTS`` is the list of the names in the source."""
    sources = [
        path.read_text("utf-8")
        for folder in ("net", "roles", "transfer")
        for path in (PACKAGE / folder).rglob("*.py")
    ]
    found = {part.split('"')[1] for text in sources for part in text.split(".buggify(")[1:]}
    assert found == set(POINTS)


@pytest.mark.slow
def test_all_points_strike_in_a_few_federations_and_nothing_breaks():
    """Each of them is reached by the real roles."""
    struck = Counter()
    for seed in range(6):
        verdict = play(Setting(seed=seed, relays=1, relay_mode="cache", buggify=1.0))
        assert verdict.clean, verdict.violations
        struck += verdict.evidence.struck
    assert set(struck) == set(POINTS) - {"no pause"} | ({"no pause"} & set(struck))
