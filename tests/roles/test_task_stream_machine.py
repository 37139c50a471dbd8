"""Who is asked next without rounds: the rules, one by one, and under any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.roles.task_stream_machine import StreamMachine, StreamPlan

SITES = ("a", "b", "c")


def machine(quorum=1, concurrency=3, failures=2):
    """Return a machine of three sites."""
    return StreamMachine(StreamPlan(SITES, quorum, concurrency, failures))


def test_a_site_is_asked_again_when_its_update_was_looked_at():
    """Not while it waits for whoever iterates: that bounds what may pile up."""
    made = machine()
    made.begin("a")
    made.arrive("a")
    assert (made.idle(), made.room, made.busy) == (("b", "c"), 2, 0)
    made.resume(("a",))
    assert (made.idle(), made.room) == (SITES, 3)


def test_a_failed_site_rests_until_an_update_has_come():
    """So one that fails at once does not spin."""
    made = machine()
    made.begin("a")
    made.begin("b")
    made.fail("a")
    assert made.idle() == ("c",)
    made.arrive("b")
    assert made.idle() == ("a", "c")


def test_who_rests_is_asked_when_nobody_works():
    """Else nothing would ever happen again."""
    made = machine()
    for site in SITES:
        made.begin(site)
        made.fail(site)
    assert made.idle() == SITES


def test_failures_in_a_row_count_and_an_update_forgives_them():
    """Two in a row are too many here."""
    made = machine(quorum=3)
    for outcome in (made.fail, made.arrive, made.fail):
        made.resume(SITES)
        made.begin("a")
        outcome("a")
    assert not made.is_short
    made.fail("a")
    assert (made.is_short, made.left) == (True, 2)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (4, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_contradictions_are_refused(numbers):
    """Quorum, concurrency and failures have their bounds."""
    with pytest.raises(ValueError, match=r"quorum|concurrency"):
        StreamPlan(SITES, *numbers)


@given(st.lists(st.tuples(st.sampled_from(SITES), st.sampled_from("afrt")), max_size=60))
def test_never_more_than_concurrency_are_out(events):
    """Whatever comes in whatever order."""
    made, working = machine(concurrency=2, failures=3), set()
    for site, kind in events:
        if site in working and kind in "aft":
            working.discard(site)
            {"a": made.arrive, "f": made.fail, "t": made.take_back}[kind](site)
        made.resume(SITES if kind == "r" else ())
        for idle in made.idle()[: made.room]:
            made.begin(idle)
            working.add(idle)
        assert made.busy == len(working) <= 2
