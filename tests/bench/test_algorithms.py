"""The curves of the algorithms: every one is played, and all had a grid of the same size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.algorithms_arrivals import Arrivals
from bench.algorithms_grid import DATA, GRIDS, LOCAL, Grid, Outcome, searched
from bench.algorithms_runs import BUFFER, NAMES, SITES, play
from flare_async.recipes.replay import Replay
from tests.bench.test_benches import rows_of, value_of

pytestmark = pytest.mark.timeout(120)  # torch alone takes seconds to import

FEDBUFF = {"rate": 0.1, "server_rate": 1.0}


@pytest.mark.sweep
def test_every_algorithm_has_its_accuracies_and_the_picture_is_drawn(tmp_path: Path) -> None:
    """Two rounds of one seed: mean, smallest and largest are the same."""
    picture = tmp_path / "curves.png"
    words = ("--rounds", "2", "--seeds", "1", "--picture", str(picture))
    rows = rows_of("bench.algorithms", *words)

    cases = {str(row["case"]).partition(",")[0]: row["case"] for row in rows}
    assert tuple(cases) == NAMES
    for case in cases.values():
        own = [row for row in rows if row["case"] == case]
        accuracy = value_of(own, "accuracy, round 2")
        assert 10 < accuracy < 100
        assert value_of(own, "accuracy, round 2, smallest") == accuracy
        assert value_of(own, "accuracy, round 2, largest") == accuracy
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_committed_outcome_has_the_whole_grid_and_the_same_number_of_points_for_all() -> None:
    """Whoever changes a grid plays it again."""
    grid = Grid.read()

    for name in NAMES:
        assert [one.point for one in grid.outcomes[name]] == list(GRIDS[name])
        assert len(grid.outcomes[name]) == 12
    assert set(grid.outcomes) == set(NAMES)
    assert grid.local == LOCAL
    assert not set(grid.seeds) & {1, 2, 3}
    assert len(grid.seeds) >= 2


def test_the_committed_choice_follows_from_the_outcome() -> None:
    """The best validation accuracy, in the file as in the code that reads it."""
    grid, written = Grid.read(), json.loads(DATA.read_text("utf-8"))

    for name in NAMES:
        best = max(one.accuracy for one in grid.outcomes[name])
        chosen = grid.chosen(name)
        assert written["chosen"][name] == chosen
        assert [one.accuracy for one in grid.outcomes[name] if one.point == chosen] == [best]


def test_a_point_that_fails_is_never_chosen(tmp_path: Path) -> None:
    """Of equal accuracies the one with less loss is; what is written is read again."""
    points = [{"rate": rate} for rate in (0.1, 0.2, 0.3)]
    outcomes = [
        Outcome(points[0], 0.5, 0.9),
        Outcome(points[1], 0.5, 0.8),
        Outcome(points[2], 0.0, None, "RunFailed"),
    ]
    Grid("python -m this", 3, (7,), {"FedAvg": outcomes}).write(tmp_path / "grid.json")

    grid = Grid.read(tmp_path / "grid.json")
    assert grid.chosen("FedAvg") == points[1]
    assert grid.outcomes["FedAvg"] == outcomes


@pytest.mark.sweep
def test_a_point_whose_run_fails_has_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that leads to infinite weights is refused by the recipe, and told as such."""
    monkeypatch.setattr("bench.algorithms_grid.GRIDS", {"FedAvg": [{"rate": 1e38}]})
    (found,) = searched(["FedAvg"], 1, [1])

    assert (found.accuracy, found.loss, found.failed) == (0.0, None, "RunFailed")


def test_arrivals_are_a_record_that_can_be_replayed() -> None:
    """Every version has as many updates as the buffer, of sites that work without a break."""
    arrivals = Arrivals(SITES, BUFFER, 20, seed=3)
    replay = Replay.parse(arrivals.lines())

    assert [len(parts) for parts in replay.versions] == [BUFFER] * 20
    assert arrivals.lines() == Arrivals(SITES, BUFFER, 20, seed=3).lines()
    assert arrivals.lines() != Arrivals(SITES, BUFFER, 20, seed=4).lines()
    assert 0.5 < arrivals.staleness() < SITES / BUFFER


def test_without_concurrency_beyond_the_buffer_updates_are_fresh_on_average() -> None:
    """One site that works alone always begins from the newest version."""
    assert Arrivals(1, 1, 10, seed=0).staleness() == 0


@pytest.mark.sweep
def test_fedbuff_depends_on_its_seed_alone() -> None:
    """Ten client updates are a round; the same arrivals give the same models."""
    first, again = (play("FedBuff", FEDBUFF, rounds=2, seed=5, test=False) for _ in range(2))

    assert first == again
    assert len(first.accuracy) == 3
