"""Axes, curves and bars."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.jobs.curves import Curve, CurveKind
from flare_async.sim.charts import bar_chart, line_chart, ticks
from flare_async.sim.facts import Figure
from flare_async.sim.words import byte_count, clean, duration, number, percent

NUMBERS = st.floats(-1e12, 1e12)


@given(NUMBERS, NUMBERS)
def test_ticks_cover_their_range_with_few_round_steps(one: float, other: float) -> None:
    """They reach from below the least to above the greatest, evenly."""
    low, high = sorted((one, other))
    found = ticks(low, high)
    assert 1 <= len(found) <= 13
    if high - low > 1e-6 * max(1.0, abs(low), abs(high)):
        slack = (high - low) * 1e-6
        assert found[0] <= low + slack
        assert found[-1] >= high - slack


def test_ticks_of_an_accuracy_are_fifths() -> None:
    """The axis that is seen most."""
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


@given(st.lists(st.tuples(st.integers(0, 50), NUMBERS), min_size=1, max_size=60))
def test_any_finite_curve_can_be_drawn(points: list[tuple[int, float]]) -> None:
    """No coordinate is left without a number."""
    curve = Curve("validation x", CurveKind.SCORE, tuple((float(a), b) for a, b in points))
    drawn = line_chart("x", [curve], mark=0)
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_few_points_have_markers_and_many_have_none() -> None:
    """A thousand circles would hide the curve."""

    def circles(count: int) -> int:
        points = tuple((float(at), at / count) for at in range(count))
        return line_chart("x", [Curve("x", CurveKind.SCORE, points)]).count("<circle")

    assert (circles(40), circles(41)) == (40, 0)


def test_a_bar_never_leaves_its_track() -> None:
    """Values outside 0 to 1 are cut, not drawn beyond."""
    drawn = bar_chart("x", [Figure("a", 7.0), Figure("b", -1.0), Figure("c", math.nan)])
    assert drawn.count('width="300"') == 3
    assert drawn.count('width="300.0"') == 1
    assert drawn.count('width="0.0"') == 2


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (byte_count(0), "0 B"),
        (byte_count(999), "999 B"),
        (byte_count(1000), "1.0 KB"),
        (byte_count(999_960), "1.0 MB"),
        (byte_count(1.5e9), "1.5 GB"),
        (duration(0.0000123), "12 us"),
        (duration(0.25), "250 ms"),
        (duration(3.21), "3.2 s"),
        (duration(245), "4 min 05 s"),
        (duration(math.nan), "-"),
        (number(0.123456), "0.1235"),
        (number(math.inf), "-"),
        (percent(0.9443), "94.4 %"),
        (clean("a\x1b[2J\nb\t c"), "a [2J b c"),
        (clean("x" * 400, 10), "xxxxxxx..."),
    ],
)
def test_numbers_and_text_are_spelled_one_way(shown: str, expected: str) -> None:
    """Live view, tables and report agree."""
    assert shown == expected
