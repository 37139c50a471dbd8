"""What a real connection costs, measured by the bench itself: bytes of memory, never time."""

from __future__ import annotations

import pytest

from bench.fanout import SIDES, TARGET_KIB, Case, case_rows, memory_rows
from bench.table import Row

PULLED = 100_000
AT_ONCE = 16


def grown(rows: list[Row], side: str) -> float:
    """Return the KiB that a side grew by for each connection that has pulled."""
    (found,) = (row for row in rows if row.metric == f"RSS, {side}: after its pull")
    assert found.unit == "KiB a connection"
    return float(found.value)


@pytest.mark.sweep
@pytest.mark.parametrize(("transport", "count", "most"), [("tcp", 500, 12.0), ("tls", 100, 110.0)])
def test_a_connection_that_has_pulled_costs_no_more_than_it_may(
    transport: str, count: int, most: float
) -> None:
    """User-space RSS of either process, after 100 KB each over so many real connections."""
    rows = case_rows(Case(transport, count, PULLED, AT_ONCE))

    assert TARGET_KIB[transport] == most
    costs = {side: grown(rows, side) for side in SIDES}
    assert all(0 < cost <= most for cost in costs.values()), costs


def test_what_clients_grew_by_is_divided_by_their_number() -> None:
    """The figure that the other test asserts is that of a connection, without the warm-up."""
    steps = [
        {side: {"rss": 1024.0 * rss, "free": 0.0} for side in SIDES} for rss in (7000, 7500, 8000)
    ]
    rows = memory_rows(Case("tcp", 100, PULLED, AT_ONCE), steps)

    assert {grown(rows, side) for side in SIDES} == {10.0}
