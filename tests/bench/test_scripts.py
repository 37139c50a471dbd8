"""The bench of scripts, at a small size: every site takes part, and is counted."""

from __future__ import annotations

import pytest

from bench.scripts import measure


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_every_site_brings_its_updates(external: bool) -> None:
    """In threads and in processes; what the processes held is told."""
    found = {row.metric: row for row in measure(2, 2, 4000, external=external)}
    assert found["updates"].value == found["updates"].reference_value == 4
    assert ("trainers" in found) is external
