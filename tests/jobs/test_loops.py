"""What a run does with the garbage collector of its process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from flare_async.jobs.loops import spare_collector


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the thresholds back, whatever a test has made of them."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_an_application_that_collects_seldom_keeps_its_collector_as_it_is() -> None:
    """Its thresholds say nothing about who may freeze."""
    gc.set_threshold(60_000, 20, 20)
    with spare_collector(240_000):
        assert gc.get_threshold() == (60_000, 20, 20)
    assert (gc.get_threshold(), gc.get_freeze_count()) == ((60_000, 20, 20), 0)
