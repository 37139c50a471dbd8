"""What others get beside a stalled reader, in virtual time: exact, so it can be asserted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.virtual import Virtual, virtual_rows

SMALL = Virtual(readers=7, links=8, nbytes=2_000_000)
CASES = [SMALL, replace(SMALL, links=1)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stalled_reader_takes_at_most_a_twentieth_of_the_others_throughput(case: Virtual) -> None:
    """F01: .95 of what they get without it, with a link each and on one link."""
    _, judged = virtual_rows(case)

    assert judged.ratio is not None
    assert judged.value >= 0.95
    assert judged.reference_value == 0.95


@pytest.mark.parametrize("case", CASES, ids=str)
def test_virtual_figures_are_the_same_in_every_run(case: Virtual) -> None:
    """Nothing of the machine enters them."""
    assert virtual_rows(case) == virtual_rows(case)


def test_one_link_carries_no_more_than_its_bandwidth() -> None:
    """The figure is of the simulated link: between nine tenths of its bandwidth and all of it."""
    rate, _ = virtual_rows(CASES[1])

    assert rate.reference_value is not None
    assert 0.9 * 12.5 <= rate.reference_value <= 12.5
