"""The decisions of a round: any order of events, and what must hold after each of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.roles.decisions import (
    Arrived,
    Close,
    CloseReason,
    DeadlinePassed,
    Dropped,
    Failed,
    Gather,
    Gathered,
    Kept,
    Left,
    Offer,
    Revoke,
    Started,
)
from flare_async.roles.machine import RoundMachine, RoundPlan

SITES = ("a", "b", "c", "d", "e")


def started(**options):
    """Return a machine that has begun, and what it did first."""
    plan = RoundPlan(**{"sites": SITES, "quorum": 5, "target": 5, **options})
    machine = RoundMachine(plan)
    return machine, machine.handle(Started())


def offers(actions):
    """Return the sites that are offered their task."""
    return [action.site for action in actions if isinstance(action, Offer)]


def revoked(actions):
    """Return the sites whose task is taken back."""
    return [action.site for action in actions if isinstance(action, Revoke)]


class Ledger:
    """What is known of a round from its actions alone."""

    def __init__(self, plan):
        self.plan = plan
        self.offered, self.revoked, self.closes = [], [], []
        self.arrived, self.failed = set(), set()

    @property
    def settled(self):
        """The sites that will bring nothing more."""
        return self.arrived | self.failed | set(self.revoked)

    def take(self, actions):
        """Note actions; whatever comes after the close is wrong."""
        for action in actions:
            assert not self.closes
            match action:
                case Offer(site):
                    self.offered.append(site)
                case Revoke(site):
                    self.revoked.append(site)
                case Close(reason):
                    self.closes.append(reason)

    def apply(self, machine, event):
        """Give the machine an event, as the coroutine around it would."""
        before = len(self.closes)
        live = not self.closes
        match event:
            case Arrived(site) if live and site in self.offered and site not in self.settled:
                self.arrived.add(site)
            case Failed(site) if live and site in self.offered and site not in self.settled:
                self.failed.add(site)
        actions = machine.handle(event)
        assert not (before and actions)
        self.take(actions)

    def check(self):
        """Check what holds after every event."""
        assert len(set(self.offered)) == len(self.offered)
        assert self.offered == list(self.plan.sites[: len(self.offered)])
        assert len(self.closes) <= 1
        unsettled = [site for site in self.plan.sites if site not in self.settled]
        if self.closes:
            assert not unsettled
            assert len(self.settled) == len(self.plan.sites)
            return
        ahead = len(self.offered) - self.plan.sites.index(unsettled[0])
        assert self.plan.window is None or ahead <= self.plan.window
        assert ahead >= 1  # somebody is always at work: no round waits for nothing


@st.composite
def plans(draw):
    """Draw a plan that is allowed."""
    sites = tuple(f"site-{number}" for number in range(draw(st.integers(1, 7))))
    target = draw(st.integers(1, len(sites)))
    quorum = draw(st.integers(1, target))
    window = draw(st.none() | st.integers(1, 8))
    return RoundPlan(sites, quorum, target, draw(st.none() | st.floats(0.1, 10)), window)


@settings(max_examples=120, deadline=None)
@given(plans(), st.data())
def test_every_order_of_events_keeps_the_promises(plan, data):
    """Never offered twice, never beyond the window, closed once, and everybody accounted for."""
    site = st.sampled_from(plan.sites)
    ends = st.sampled_from([DeadlinePassed(), Left()])
    event = st.one_of(st.builds(Arrived, site), st.builds(Failed, site), ends)
    machine, ledger = RoundMachine(plan), Ledger(plan)
    ledger.apply(machine, Started())
    for step in data.draw(st.lists(event, max_size=30)):
        ledger.check()
        ledger.apply(machine, step)
    ledger.check()
    assert machine.arrived == len(ledger.arrived)
    assert machine.closed is (ledger.closes[0] if ledger.closes else None)


@settings(max_examples=120, deadline=None)
@given(plans(), st.data())
def test_a_round_whose_sites_all_answer_closes_for_the_right_reason(plan, data):
    """Whatever the order of the answers, the reason follows from the counts alone."""
    machine, ledger = RoundMachine(plan), Ledger(plan)
    ledger.apply(machine, Started())
    while not ledger.closes:
        open_sites = [site for site in ledger.offered if site not in ledger.settled]
        site = data.draw(st.sampled_from(open_sites))
        ledger.apply(machine, data.draw(st.sampled_from([Arrived(site), Failed(site)])))
    arrived, answered = len(ledger.arrived), len(ledger.arrived | ledger.failed)
    expected = CloseReason.COMPLETE if answered == len(plan.sites) else CloseReason.TARGET
    if len(plan.sites) - len(ledger.failed) < plan.quorum:
        expected = CloseReason.NO_QUORUM
    assert ledger.closes == [expected]
    assert expected is CloseReason.NO_QUORUM or arrived >= plan.quorum


def test_all_sites_are_offered_at_once_without_a_window():
    """Nothing but the window holds a site back."""
    assert offers(started()[1]) == list(SITES)


def test_the_window_moves_with_the_first_unsettled_site():
    """A later site that is done frees no place: its update waits for its turn in the sum."""
    machine, first = started(window=2, quorum=3)
    assert offers(first) == ["a", "b"]
    assert machine.handle(Arrived("b")) == []
    assert offers(machine.handle(Failed("a"))) == ["c", "d"]


def test_target_updates_close_the_round_and_revoke_the_rest():
    """Sites that were not offered their task are named as well."""
    machine, _ = started(quorum=1, target=2, window=3)
    machine.handle(Arrived("c"))
    actions = machine.handle(Arrived("a"))
    assert actions[-1] == Close(CloseReason.TARGET)
    assert revoked(actions) == ["b", "d", "e"]


def test_the_last_settled_site_completes_the_round():
    """Failures count as settled as long as the quorum can be met."""
    machine, _ = started(quorum=3)
    for event in (Failed("a"), Arrived("b"), Arrived("c"), Failed("d")):
        assert machine.handle(event) == []
    assert machine.handle(Arrived("e")) == [Close(CloseReason.COMPLETE)]


def test_a_quorum_out_of_reach_ends_the_round_at_once():
    """Nobody waits for updates that cannot change anything."""
    machine, _ = started(quorum=4)
    machine.handle(Arrived("a"))
    machine.handle(Failed("b"))
    actions = machine.handle(Failed("c"))
    assert actions == [Revoke("d"), Revoke("e"), Close(CloseReason.NO_QUORUM)]


@pytest.mark.parametrize(
    ("arrived", "reason"), [(2, CloseReason.DEADLINE), (1, CloseReason.NO_QUORUM)]
)
def test_the_deadline_closes_with_the_quorum_and_fails_without(arrived, reason):
    """The deadline is the round's policy, the quorum decides what it means."""
    machine, _ = started(quorum=2, deadline=60.0)
    for site in SITES[:arrived]:
        machine.handle(Arrived(site))
    actions = machine.handle(DeadlinePassed())
    assert (revoked(actions), actions[-1]) == (list(SITES[arrived:]), Close(reason))


def test_leaving_a_round_takes_the_task_back_from_all_that_are_not_settled():
    """Also from those that were never offered theirs, and nothing more is offered."""
    machine, _ = started(quorum=2, window=2)
    machine.handle(Arrived("a"))
    actions = machine.handle(Left())
    assert actions == [*(Revoke(site) for site in "bcde"), Close(CloseReason.LEFT)]
    assert machine.handle(Failed("b")) == []


@pytest.mark.parametrize("late", [Arrived("e"), Failed("e"), DeadlinePassed(), Left(), Started()])
def test_events_after_the_close_change_nothing(late):
    """What comes late is recorded by others."""
    machine, _ = started(quorum=1, target=1)
    machine.handle(Arrived("a"))
    before = (machine.closed, machine.arrived)
    assert machine.handle(late) == []
    assert (machine.closed, machine.arrived) == before


def test_a_site_that_was_not_offered_its_task_cannot_settle():
    """An update from beyond the window is nobody's."""
    machine, _ = started(window=1, quorum=1, target=1)
    assert machine.handle(Arrived("e")) == []
    assert (machine.arrived, machine.closed) == (0, None)


def test_a_second_answer_of_a_site_changes_nothing():
    """At most one contribution a site (S1)."""
    machine, _ = started(quorum=2, target=2)
    machine.handle(Arrived("a"))
    assert machine.handle(Arrived("a")) == []
    assert machine.handle(Failed("a")) == []
    assert machine.arrived == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"quorum": 0}, "quorum 0"),
        ({"quorum": 3, "target": 2}, "quorum 3, target 2"),
        ({"target": 6}, "target 6, 5 sites"),
        ({"sites": ("a", "b", "a"), "quorum": 1, "target": 2}, "listed twice"),
        ({"window": 0}, "window 0"),
    ],
)
def test_a_plan_that_cannot_be_met_is_refused(options, problem):
    """The message has the numbers."""
    with pytest.raises(ValueError, match=problem):
        started(**options)


GROUPED = {"groups": (("a", "b", "c"), ("d",)), "quorum": 1, "target": 5}


def play(machine, *events):
    """Give a machine events; return what it did at the last of them."""
    actions = []
    for event in events:
        actions = machine.handle(event)
    return actions


def test_a_group_is_gathered_when_all_of_its_sites_are_kept_or_settled():
    """Once; the other group and the site beside them are still at work."""
    machine, _ = started(**GROUPED)
    assert play(machine, Kept("a"), Failed("b")) == []
    assert machine.handle(Kept("c")) == [Gather(0)]
    assert machine.handle(Arrived("e")) == []
    assert (machine.arrived, machine.closed) == (1, None)


def test_a_sum_arrives_as_a_whole():
    """Its sites count one by one, and the last one completes the round."""
    machine, _ = started(**GROUPED)
    play(machine, Kept("a"), Kept("b"), Kept("c"), Gathered(("a", "b", "c")), Arrived("e"))
    assert machine.arrived == 4
    assert machine.handle(Kept("d")) == [Gather(1)]
    assert machine.handle(Gathered(("d",))) == [Close(CloseReason.COMPLETE)]


def test_what_is_kept_needs_no_place_in_the_window():
    """Else a window smaller than a group would stand still."""
    machine, _ = started(**GROUPED | {"window": 1})
    assert machine.handle(Kept("a")) == [Offer("b")]
    assert machine.handle(Kept("b")) == [Offer("c")]
    assert machine.handle(Kept("c")) == [Gather(0), Offer("d")]


def test_what_is_kept_counts_towards_the_target_and_the_rest_is_revoked_before_it_comes():
    """The sum may bring more than the target: it cannot be divided."""
    machine, _ = started(**GROUPED | {"target": 3})
    actions = play(machine, Kept("a"), Arrived("e"), Kept("b"))
    assert actions == [Revoke("c"), Revoke("d"), Gather(0)]
    assert machine.handle(Gathered(("a", "b"))) == [Close(CloseReason.TARGET)]


def test_a_deadline_gathers_what_is_kept_and_then_closes():
    """Sites that are still at work are late."""
    machine, _ = started(**GROUPED | {"quorum": 2, "deadline": 9.0})
    play(machine, Kept("a"), Arrived("e"))
    late = [Revoke("b"), Revoke("c"), Revoke("d")]
    assert machine.handle(DeadlinePassed()) == [*late, Gather(0)]
    assert machine.handle(Gathered(("a",))) == [Close(CloseReason.DEADLINE)]


def test_what_was_dropped_is_gathered_again_and_after_the_deadline_it_is_late():
    """A lost sum sends its sites back to work, as long as there is time."""
    machine, _ = started(**GROUPED | {"deadline": 9.0})
    play(machine, Kept("a"), Kept("b"), Kept("c"))
    assert machine.handle(Dropped(("a", "b", "c"))) == []
    assert play(machine, Kept("a"), Arrived("b"), Kept("c")) == [Gather(0)]
    play(machine, DeadlinePassed())
    actions = machine.handle(Dropped(("a", "c")))
    assert (revoked(actions), actions[-1]) == (["a", "c"], Close(CloseReason.DEADLINE))


def test_a_round_whose_quorum_was_dropped_at_its_deadline_has_failed():
    """What was kept is no update until it is here."""
    machine, _ = started(**GROUPED | {"quorum": 2, "deadline": 9.0})
    play(machine, Kept("a"), Kept("b"), DeadlinePassed())
    assert machine.handle(Dropped(("a", "b")))[-1] == Close(CloseReason.NO_QUORUM)


def answers(data, machine, offered, kept):
    """Return one thing that may happen to sites at work, or to what relays keep."""
    choices = [make(site) for site in offered for make in (Arrived, Failed, Kept)]
    asked = [group for group in machine.plan.groups if kept & set(group)]
    choices += [
        make(tuple(site for site in group if site in kept))
        for group in asked
        for make in (Gathered, Dropped)
    ]
    return data.draw(st.sampled_from(choices))


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(1, 3), st.data())
def test_every_round_of_sums_ends_and_nobody_counts_twice(plan, size, data):
    """Whatever is kept, lost and brought: gathered when it is due, closed once."""
    cut = range(0, len(plan.sites), size)
    groups = tuple(plan.sites[at : at + size] for at in cut)
    plan = RoundPlan(plan.sites, plan.quorum, plan.target, plan.deadline, plan.window, groups)
    machine, offered, kept, arrived = RoundMachine(plan), set(), set(), []
    actions, steps = machine.handle(Started()), 0
    while machine.closed is None:
        offered |= set(offers(actions))
        offered -= set(revoked(actions))
        assert offered or kept, "somebody is always at work"
        event = answers(data, machine, sorted(offered), kept)
        steps += 1
        if isinstance(event, Dropped) and steps > 20:
            event = Gathered(event.sites)
        actions = machine.handle(event)
        sites = set(getattr(event, "sites", (getattr(event, "site", ""),)))
        offered, kept = offered - sites, kept - sites
        match event:
            case Kept():
                kept |= sites
            case Dropped():
                offered |= sites
            case Arrived() | Gathered():
                arrived += sites
    assert len(arrived) == len(set(arrived)) == machine.arrived
    assert not kept or machine.closed in {CloseReason.TARGET, CloseReason.NO_QUORUM}
    assert machine.closed is CloseReason.NO_QUORUM or machine.arrived >= plan.quorum
