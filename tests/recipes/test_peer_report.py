"""What an aggregator tells of its round: as much as fits, and believed as far as it can be."""

from __future__ import annotations

import json

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.recipes.peer_report import records_of, report_of
from flare_async.roles.outcome import SiteRecord, SiteStatus

SITES = [f"site-{number}" for number in range(1, 101)]


def records(metrics=3):
    """Return a record for each site, of which every fifth has failed."""
    return [
        SiteRecord(
            site=site,
            status=SiteStatus.OK if index % 5 else SiteStatus.FAILED,
            started=50.0 + index,
            ended=60.0 + index,
            train_seconds=2.5,
            weight=float(index),
            metrics={f"metric_{at}": at / 7 for at in range(metrics)} if index % 5 else {},
            reason="" if index % 5 else "ValueError: no data here",
            bytes_down=100,
            bytes_up=200,
            code="" if index % 5 else "training_failed",
        )
        for index, site in enumerate(SITES)
    ]


def test_records_arrive_as_they_were_with_times_of_the_server():
    """Seconds are counted from when the aggregator was asked."""
    told = records()
    found = records_of(report_of(told, 1_000_000), 7.0, SITES)
    assert [one.metrics for one in found] == [one.metrics for one in told]
    assert [one.reason for one in found] == [one.reason for one in told]
    assert (found[0].started, found[9].started, found[9].ended) == (7.0, 16.0, 26.0)


@pytest.mark.parametrize(("most", "kept"), [(30_000, "metrics"), (9_000, "reason"), (4_000, "")])
def test_a_long_report_lacks_metrics_then_reasons_and_never_a_site(most, kept):
    """It is one message, whatever the number of sites and metrics."""
    text = report_of(records(metrics=6), most)
    found = records_of(text, 0.0, SITES)
    assert len(text) <= most
    assert [one.site for one in found] == SITES
    assert any(one.metrics for one in found) == (kept == "metrics")
    assert sum(one.status is SiteStatus.OK for one in found) == 80


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "nonsense",
        "{}",
        "[" * 100_000,
        json.dumps([["site-1"]]),
        json.dumps([["site-1", 99]]),
        json.dumps([["somebody else", 0]]),
        json.dumps([["site-1", 0], ["site-1", 0]]),
        json.dumps([["site-1", 0, [1, 2], {}, "", ""]]),
        json.dumps([["site-1", 0, [1, 2, 3, 4, 5, 6], [], "", ""]]),
        json.dumps([["site-1", 0, [1, 2, 3, 4, 5, 6], {"a": "b"}, "", ""]]),
    ],
    ids=range(12),
)
def test_what_is_no_report_is_a_protocol_error(text):
    """Nothing that a site says raises anything else."""
    with pytest.raises(RemoteProtocolError, match="bad_report"):
        records_of(text, 0.0, SITES)
