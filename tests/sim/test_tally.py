"""The rows of a run, one a site."""

from __future__ import annotations

import pytest

from flare_async.jobs.history import History, RoundRecord, SiteRecord, SiteStatus
from flare_async.sim.tally import tally
from tests.sim.story import history


def test_a_row_adds_up_its_rounds() -> None:
    """Counts and bytes are sums, weight and metrics the last, seconds a mean."""
    rows = tally(history(sites=4, rounds=3))
    assert [row.site for row in rows] == ["site-1", "site-2", "site-3", "site-4"]
    first = rows[0]
    assert (first.completed, first.failed, first.bytes_down, first.bytes_up) == (3, 0, 3000, 2700)
    assert first.weight == 10.0
    assert first.share == pytest.approx(0.1)
    assert first.train_seconds == 0.25
    assert first.metrics == {"loss": 1 / 3}


def test_a_failed_site_has_no_share_and_its_last_reason() -> None:
    """What is not in the sum has no part of it."""
    row = tally(history(bad="broken"))[-1]
    assert (row.completed, row.failed, row.share, row.reason) == (0, 3, 0.0, "broken")


def test_a_site_that_failed_last_has_no_share_of_the_last_sum() -> None:
    """Its weight is that of its last good round, its share none."""
    made = history(sites=2, rounds=1)
    made.rounds.append(history(sites=2, rounds=2, bad="broken").rounds[1])
    first, second = tally(made)
    assert (first.share, second.weight, second.share) == (1.0, 20.0, 0.0)


def test_a_late_site_is_neither_ok_nor_failed() -> None:
    """Late is a state of its own."""
    late = SiteRecord("a", SiteStatus.LATE, 0.0, 1.0)
    made = History(rounds=[RoundRecord(0, 0.0, 1.0, 1, [late])])
    row = tally(made)[0]
    assert (row.completed, row.failed, row.late) == (0, 0, 1)


def test_validation_rounds_do_not_count() -> None:
    """They train nothing."""
    good = SiteRecord("a", SiteStatus.OK, 0.0, 1.0)
    made = History(rounds=[RoundRecord(0, 0.0, 1.0, 1, [good], task="validate")])
    assert tally(made) == []
