"""The bench of relays: counted bytes and bounded memory; no time is asserted."""

from __future__ import annotations

import pytest

from tests.bench.test_benches import rows_of, value_of


@pytest.mark.sweep
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("mode", "egress"), [pytest.param("splice", 8.0, marks=pytest.mark.sweep), ("cache", 1.0)]
)
def test_a_relay_grows_by_its_windows_and_a_cache_asks_once(mode: str, egress: float) -> None:
    """64 MB to 8 clients over tcp, each role in a process of its own."""
    words = ("--bytes", "64MB", "--mode", mode, "--cache", "64MB")
    rows = [row for row in rows_of("bench.relay", *words) if str(row["case"]).startswith(mode)]
    assert value_of(rows, "growth") < 48 + (64 if mode == "cache" else 0)
    found = value_of(rows, "egress")
    assert found == egress if mode == "splice" else 1.0 <= found <= 1.1


@pytest.mark.sweep
@pytest.mark.timeout(120)
def test_the_parent_of_a_relay_that_adds_pulls_one_update() -> None:
    """8 clients bring 64 MB each; the server pulls 64 MB."""
    rows = rows_of("bench.relay", "--bytes", "64MB", "--mode", "reduce")
    assert value_of(rows, "ingress") == 1.0
    assert value_of(rows, "growth") < 2 * 64 + 67.2 + 48
