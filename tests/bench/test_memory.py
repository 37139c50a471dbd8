"""``bench.memory`` runs real processes and judges them; its arithmetic is exact."""

from __future__ import annotations

import pytest

from bench.memory import Case, slope
from flare_async.limits import MIB
from tests.bench.test_benches import compared, rows_of, value_of


def test_a_slope_is_in_per_cent_for_a_hundred_rounds() -> None:
    """One byte a round at a mean of 1,000 is ten per cent for 100 rounds."""
    assert slope([1000.0] * 50) == 0
    assert slope([950.0 + step for step in range(101)]) == pytest.approx(10.0)
    assert slope([1000.0 - step for step in range(3)]) < 0
    assert slope([5.0]) == 0


def test_windows_grow_with_the_clients_up_to_the_budget_of_the_process() -> None:
    """Sixteen MiB a link, 256 in all."""
    assert Case(8, 1, 1).windows == 128 * MIB
    assert Case(100, 1, 1).windows == 256 * MIB


@pytest.mark.sweep
def test_memory_measures_server_and_clients() -> None:
    """Each beside its target, and nothing was held as a file in memory."""
    rows = rows_of("bench.memory", "--clients", "2", "--bytes", "4MB", "--tensor-bytes", "1MB")

    assert {row["case"] for row in rows} == {"2 clients, 4 MB"}
    growths = {"server: growth", "server: beside 2 copies", "client: growth, largest"}
    assert compared(rows, "target") == growths
    assert value_of(rows, "server: growth") > 8
    assert value_of(rows, "server: shared after") == 0


@pytest.mark.sweep
def test_the_slope_is_that_of_server_and_steepest_client() -> None:
    """Two rows have a target."""
    words = ("--clients", "1", "--bytes", "1MB", "--slope", "--rounds", "4", "--warm", "1")
    rows = rows_of("bench.memory", *words)

    wanted = {"server: slope, 100 rounds", "client, steepest: slope, 100 rounds"}
    assert compared(rows, "target, below") == wanted
