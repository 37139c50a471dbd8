"""What a simulated client costs, in counts that do not depend on the machine."""

from __future__ import annotations

from bench.clients import floor_us
from tests.bench.test_benches import compared, rows_of, value_of


def test_a_client_round_takes_six_frames_one_acknowledgement_and_less_than_a_task() -> None:
    """The same over memory and over tcp: what is simulated is what real sites run."""
    rows = rows_of("bench.clients", "--clients", "20", "--rounds", "2", "--size", "1KB")
    counts = {"frames a client-round", "ACKs a client-round", "tasks a client-round"}
    assert compared(rows, "over tcp") == counts
    assert round(value_of(rows, "frames a client-round"), 1) <= 6.2
    assert round(value_of(rows, "ACKs a client-round"), 1) <= 1.2
    assert value_of(rows, "tasks a client-round") < 1
    same = [row["ratio"] for row in rows if row["reference"] == "over tcp"]
    assert [round(float(ratio or 0), 1) for ratio in same] == [1.0, 1.0, 1.0]


def test_the_floor_is_arithmetic_and_stands_beside_the_rounds() -> None:
    """A hundred times the values take longer, whatever the machine."""
    assert 0 < floor_us(1000) < floor_us(1_000_000)
