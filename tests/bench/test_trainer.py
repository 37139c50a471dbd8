"""The bench of trainers, at a small size: what a client passes on is not held by it."""

from __future__ import annotations

import pytest

from bench.trainer import measure

MODEL = 48_000_000


@pytest.mark.sweep
@pytest.mark.parametrize("transfer", [pytest.param("FULL", marks=pytest.mark.sweep), "DIFF"])
def test_neither_model_nor_result_is_held_by_the_client(transfer: str) -> None:
    """It grows by less than half a model, its trainer by hardly more than the received one."""
    found = {row.metric: row.value for row in measure(MODEL, 1, transfer)}
    assert found["client growth"] * 1e6 < MODEL / 2
    assert found["trainer growth"] < 1.3
