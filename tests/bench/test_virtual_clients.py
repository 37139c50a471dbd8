"""The bench of virtual clients: its rows, and that they are exact."""

from __future__ import annotations

from bench.virtual_clients import Case, play_case, rows_of


def test_a_small_case_has_every_row_and_the_same_trace():
    """Counts and the hash are a function of the seed; times are not."""
    case = Case(clients=6, relays=2, nbytes=100_000)
    first, second = (play_case(case)[0] for _ in range(2))
    rows = {row.metric: row.value for row in rows_of(case, first, 2.0, 1.0)}
    assert first.trace_hash == second.trace_hash
    assert rows["frames"] == first.frames == second.frames
    assert rows["frames a client-round"] == first.frames / 12
    assert rows[f"trace {first.trace_hash[:16]}"] == 6
