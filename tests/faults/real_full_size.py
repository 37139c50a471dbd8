"""The issue's own figures, too long for the suite: ``pytest tests/faults/real_full_size.py``."""

from __future__ import annotations

import pytest

from tests.faults import test_f12_thundering_herd as herd
from tests.faults import test_resets as resets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_f06_a_gigabyte_that_is_reset_ten_times_sends_little_twice():
    """Ten resets drawn evenly over the wire: one per cent and the windows in flight more."""
    resets.judge(1024, 3)


def test_f12_five_thousand_sites_come_back_after_a_restart_without_a_stampede(sim):
    """About 25 seconds on two cores."""
    herd.judge(sim, 5000)
