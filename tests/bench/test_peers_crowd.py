"""``bench.peers.crowd``: marginal costs, ratios in our favour, and failures that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.crowd import OURS, OURS_SGD, marginal_ms, rows_of
from bench.peers.exchange import Exchange, Figures, run_peer


def test_the_marginal_cost_is_between_the_two_largest_sizes() -> None:
    """Start-up falls out; a size that failed does not count."""
    runs = {2: Figures(99.0), 100: Figures(2.0), 1000: Figures(2.9), 9999: Figures(problem="no")}
    found = marginal_ms(runs, rounds=3)
    assert found == pytest.approx(0.9 / (900 * 3) * 1e3)
    assert marginal_ms({2: Figures(1.0)}, rounds=3) is None


def test_peers_stand_beside_the_row_that_does_the_same_work() -> None:
    """A step of SGD beside a step of SGD, what adds one beside what adds one."""
    measured = {
        "nvflare": {8: Figures(10.0, peak=900), 50: Figures(52.0, peak=900)},
        "pfl, a step of SGD": {8: Figures(1.0, peak=400), 50: Figures(1.42, peak=400)},
        OURS: {8: Figures(1.0, peak=100), 50: Figures(1.42, peak=300)},
        OURS_SGD: {8: Figures(1.0, peak=100), 50: Figures(1.84, peak=800)},
    }
    found = {row.metric: row.value for row in rows_of(measured, 3) if row.case == "ratios"}
    assert found[f"nvflare / {OURS}: a client-round more"] == pytest.approx(100.0)
    assert found[f"nvflare / {OURS}: memory, 50 clients"] == 3.0
    assert found[f"pfl, a step of SGD / {OURS_SGD}: a client-round more"] == pytest.approx(0.5)
    assert found[f"pfl, a step of SGD / {OURS_SGD}: memory, 50 clients"] == 0.5


def test_a_failed_peer_has_no_ratio() -> None:
    """Not even for the sizes that it managed, when it has but one of them."""
    measured = {
        "nvflare": {2: Figures(10.0, peak=900), 8: Figures(problem="status 1")},
        OURS: {2: Figures(1.0, peak=100), 8: Figures(1.1, peak=100)},
    }
    rows = rows_of(measured, 3)
    assert [row.metric for row in rows if "failed" in row.metric] == ["nvflare: failed"]
    assert not [row for row in rows if row.case == "ratios"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--work", "add", "--workers", "inline"),
        pytest.param(("--work", "sgd", "--workers", "inline"), marks=pytest.mark.sweep),
    ],
)
def test_our_programs_pass_their_check(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Each adds one a round, and is checked for it."""
    exchange = Exchange(3, 2, 4000, 60.0, tmp_path, tmp_path, noted=False)
    found = run_peer("ours", exchange, *options)
    assert found.problem == ""
    assert found.peak > 0
