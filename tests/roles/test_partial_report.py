"""What a relay tells of its sum: in messages that are not too long, compared site by site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.roles.behind import fits
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    Added,
    Contributor,
    PartialReady,
    PartialTask,
    ready_messages,
)
from flare_async.roles.partial_report import PartialReport
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.pull import TensorRef
from tests.roles.federation import Trains
from tests.roles.test_relay_reduce import play
from tests.roles.tree import ONE, tree

LIMITS = Limits()
REF = TensorRef("r1", "00" * 16, 3, b"\0" * 32, 10**12)


def sites(count):
    """Return the names of so many sites."""
    return tuple(f"site-{number:08d}" for number in range(count))


@given(st.integers(1, 1100))
def test_a_sum_of_any_number_of_sites_is_told_whole(count):
    """Each message is within the limits, and together they are what was to be told."""
    told = [Contributor(site, 1, 0.5) for site in sites(count)]
    *before, last = [
        PARTIAL_SCHEMA.decode(PARTIAL_SCHEMA.encode(message), LIMITS)
        for message in ready_messages(7, REF, told)
    ]
    report = PartialReport(7)
    for message in before:
        assert isinstance(message, Added)
        report.note(message, count)
    assert isinstance(last, PartialReady)
    report.check(last, [(site, 1, 0.5) for site in sites(count)])


@pytest.mark.parametrize("count", [1, 2000, 3000, 4000, 5000])
def test_a_group_that_fits_can_be_asked_for_in_one_message(count):
    """And one that cannot does not fit."""
    rules = SumRules("float32", "^x" * 50, 1.0, 32, count)
    body = PARTIAL_TASK_SCHEMA.encode(PartialTask("job" * 30, 9, 9, sites(count), REF, rules))
    assert fits(sites(count), LIMITS) == (count <= 2500)
    if fits(sites(count), LIMITS):
        assert PARTIAL_TASK_SCHEMA.decode(body, LIMITS).sites == sites(count)


WRONG = {
    "another epoch": (8, [("a", 1, 0.5), ("b", 0, 1.0)]),
    "another attempt": (7, [("a", 2, 0.5), ("b", 0, 1.0)]),
    "another weight": (7, [("a", 1, 0.25), ("b", 0, 1.0)]),
    "one too few": (7, [("a", 1, 0.5)]),
    "one too many": (7, [("a", 1, 0.5), ("b", 0, 1.0), ("c", 0, 1.0)]),
    "one twice": (7, [("a", 1, 0.5), ("b", 0, 1.0), ("b", 0, 1.0)]),
    "nobody": (7, []),
}


@pytest.mark.parametrize(("epoch", "given"), WRONG.values(), ids=WRONG)
def test_a_sum_of_something_else_is_refused(epoch, given):
    """With the error that lists who differs."""
    ready = PartialReady(epoch, REF, tuple(Contributor(*one) for one in given))
    with pytest.raises(RemoteProtocolError) as caught:
        PartialReport(7).check(ready, [("a", 1, 0.5), ("b", 0, 1.0)])
    assert caught.value.reason == "bad_partial"


def test_who_tells_of_more_sites_than_there_are_is_stopped():
    """Its messages do not pile up."""
    report = PartialReport(0)
    report.note(Added((Contributor("a", 0, 1.0),)), 2)
    with pytest.raises(RemoteProtocolError):
        report.note(Added((Contributor("b", 0, 1.0), Contributor("c", 0, 1.0))), 2)


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.timeout(90)
def test_600_sites_below_one_relay_are_one_sum(sim):
    """More than one message has room for; their tasks need more channels than the default."""
    limits = Limits(channels=2048)
    placed = {("r1", site): Trains(1.0) for site in sites(600)}

    async def main():
        async with tree(ONE, placed, limits=limits, mode="reduce") as made:
            _, statistics, _ = await play(made)
            return [site for site, _ in statistics.sites]

    assert sim(main) == list(sites(600))
