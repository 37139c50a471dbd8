"""What bounds waits and buffers is refused where it bounds nothing or contradicts itself."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from flare_async import Limits
from flare_async.errors import LimitsError

WAITS = [field.name for field in fields(Limits) if str(field.type).startswith("float")]
COUNTS = [field.name for field in fields(Limits) if str(field.type).startswith("int")]


def problems_of(**values: Any) -> list[str]:
    """Return the problems of limits that must be refused."""
    with pytest.raises(LimitsError) as caught:
        Limits(**values)
    return list(caught.value.problems)


def test_every_field_is_a_wait_or_a_count() -> None:
    """There is no third kind, which no rule would cover."""
    assert len(WAITS) + len(COUNTS) == len(fields(Limits))


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, 0, -1.0, True, "1"])
def test_a_wait_is_a_finite_positive_number(name: str, value: object) -> None:
    """One that never ends would bound nothing; the field is named, with its value."""
    found = problems_of(**{name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}={value!r} ")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [65_536.0, 1e9, math.inf, math.nan, True, "8", -1])
def test_a_count_is_a_whole_number(name: str, value: object) -> None:
    """A float fails only where it is used: in a slice, a buffer or a frame."""
    found = problems_of(**{name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}={value!r} ")


def test_whole_numbers_are_waits_as_well_and_some_counts_may_be_zero() -> None:
    """What has no bound by default may say so."""
    Limits(stall_timeout=60, lease=None, memory_bytes=None)
    Limits(min_rate=0, max_resends=0, staging_bytes=0)
    assert problems_of(channels=0) == ["channels=0 must be positive"]
    assert problems_of(stall_timeout=None) == ["stall_timeout=None is not a number"]


@pytest.mark.parametrize(
    "values",
    [
        {"stall_timeout": 0.5},
        {"frame_bytes": 4095, "control_bytes": 4000, "channels": 10},
        {"frame_bytes": 5 * 2**20},
        {"window_bytes": 17 * 2**20},
        {"link_bytes": 2**29},
        {"control_bytes": 2**21},
        {"channels": 5041},
        {"handshake_timeout": 301},
        {"send_timeout": 301},
        {"heartbeat_interval": 101},
        {"retry_cap": 301},
        {"lease": 59.9},
    ],
    ids=lambda values: next(iter(values)),
)
def test_each_contradiction_is_one_problem(values: dict[str, Any]) -> None:
    """With the names and the numbers of both sides."""
    (problem,) = problems_of(**values)
    name, value = next(iter(values.items()))
    assert f"{name}={value!r}" in problem


def test_all_problems_are_told_at_once() -> None:
    """Those of values and those between values; a wrong value is not compared as well."""
    found = problems_of(
        frame_bytes=1e6, heartbeat_interval="x", handshake_timeout=400, window_bytes=2**25, lease=2
    )
    assert [problem.split("=")[0] for problem in found] == [
        *("heartbeat_interval", "frame_bytes", "window_bytes", "handshake_timeout"),
        "stall_timeout",
    ]
