"""Who gets a task, when a round is over, and who is revoked: pure decisions.

``handle(event)`` returns actions for the coroutine around it to carry out. Sites are offered their
task in cohort order, at most ``window`` ahead of the first one that is not settled, because updates
are summed in that order and one that waits for its turn costs memory. One that a relay keeps costs
nothing here: it counts as settled for the window, and towards the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from flare_async.roles.decisions import (
    Action,
    Arrived,
    Close,
    CloseReason,
    DeadlinePassed,
    Dropped,
    Event,
    Failed,
    Gather,
    Gathered,
    Kept,
    Left,
    Offer,
    Revoke,
    Started,
)

__all__ = ["RoundMachine", "RoundPlan"]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Which sites are asked, in which order, and what closes the round.

    The round closes when ``target`` updates have arrived, when all sites are settled, when
    ``quorum`` is out of reach, or at ``deadline`` seconds after its start. Before that it gathers
    what relays keep of the sites in ``groups``, which may bring more than ``target``.

    Raises:
        ValueError: the numbers contradict each other.
    """

    sites: tuple[str, ...]
    quorum: int
    target: int
    deadline: float | None = None
    window: int | None = None
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= self.target <= len(self.sites):
            raise ValueError(
                f"quorum {self.quorum}, target {self.target}, {len(self.sites)} sites: "
                "1 <= quorum <= target <= sites is needed"
            )
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("a site is listed twice")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window {self.window}: at least one site must be at work")


class _State(IntEnum):  # hashed often, which takes a call of Python for other enumerations
    WAITING = 0
    OFFERED = 1
    KEPT = 2
    ARRIVED = 3
    FAILED = 4
    REVOKED = 5


# Names of their own: finding a member in its class is half of what asking for its count takes.
WAITING, OFFERED, KEPT, ARRIVED, FAILED, REVOKED = _State
_UNSETTLED = frozenset({WAITING, OFFERED})


class RoundMachine:
    """The state of one round."""

    def __init__(self, plan: RoundPlan) -> None:
        self.plan = plan
        self._states = dict.fromkeys(plan.sites, WAITING)
        self._places = {site: place for place, site in enumerate(plan.sites)}
        self._group_of = {site: n for n, group in enumerate(plan.groups) for site in group}
        self._next = 0  # index of the first site that was not offered its task
        self._cursor = 0  # index of the first site that is neither settled nor kept
        self._counts = dict.fromkeys(_State, 0) | {WAITING: len(plan.sites)}
        self._asked: set[int] = set()  # groups that are being gathered
        self._open = [len(group) for group in plan.groups]  # neither settled nor kept
        self._held = [0] * len(plan.groups)
        self._expired = self._enough = False
        self.closed: CloseReason | None = None

    @property
    def arrived(self) -> int:
        """How many updates have arrived."""
        return self._counts[ARRIVED]

    def handle(self, event: Event) -> list[Action]:
        """Return what to do now; an event after the close changes nothing."""
        if self.closed is not None:
            return []
        match event:
            case Arrived():  # first, because a round has one for each site
                moved = self._move(event.site, OFFERED, ARRIVED)
            case Left():
                return self._close(CloseReason.LEFT)
            case DeadlinePassed():
                moved = self._expired = True
            case Started():
                moved = True
            case _:
                moved = self._moved(event)
        return self._judge() if moved else []

    def _moved(self, event: Failed | Kept | Gathered | Dropped) -> bool:
        match event:
            case Failed(site):
                return self._move(site, OFFERED, FAILED)
            case Kept(site):
                return self._move(site, OFFERED, KEPT)
            case Gathered(sites):
                return self._move_all(sites, ARRIVED)
            case Dropped(sites):
                self._asked -= {self._group_of.get(site, -1) for site in sites}
                return self._move_all(sites, OFFERED)

    def _move_all(self, sites: tuple[str, ...], after: _State) -> bool:
        moved = [self._move(site, KEPT, after) for site in sites]
        return any(moved)

    def _move(self, site: str, before: _State, after: _State) -> bool:
        if self._states[site] is not before:
            return False
        self._set(site, after)
        if after is OFFERED:
            self._cursor = min(self._cursor, self._places[site])
        sites = self.plan.sites
        while self._cursor < len(sites) and self._states[sites[self._cursor]] not in _UNSETTLED:
            self._cursor += 1
        return True

    def _set(self, site: str, state: _State) -> None:
        before, self._states[site] = self._states[site], state
        self._counts[before] -= 1
        self._counts[state] += 1
        group = self._group_of.get(site)
        if group is not None:
            self._open[group] += (state in _UNSETTLED) - (before in _UNSETTLED)
            self._held[group] += (state is KEPT) - (before is KEPT)

    def _judge(self) -> list[Action]:
        """Close, or revoke, gather and offer as things stand now."""
        plan, kept, arrived = self.plan, self._counts[KEPT], self._counts[ARRIVED]
        everybody = self._cursor == len(plan.sites)
        lost = self._counts[FAILED] + self._counts[REVOKED]
        if len(plan.sites) - lost < plan.quorum:
            return self._close(CloseReason.NO_QUORUM)
        if arrived >= plan.target:
            return self._close(self._reason(complete=everybody))
        if kept == 0 and (everybody or self._expired):
            return self._close(self._reason(complete=everybody))
        actions: list[Action] = []
        if self._expired or arrived + kept >= plan.target:
            self._enough = not everybody or self._enough
            actions += self._revoke(_UNSETTLED)
            if self._counts[KEPT] == 0:
                return [*actions, *self._judge()]
            return [*actions, *self._gather(partly=True)]
        more = self._offer_more()
        return [*self._gather(partly=False), *more] if plan.groups else more

    def _reason(self, *, complete: bool) -> CloseReason:
        if self._expired:
            enough = self.arrived >= self.plan.quorum
            return CloseReason.DEADLINE if enough else CloseReason.NO_QUORUM
        if self.arrived < self.plan.quorum:
            return CloseReason.NO_QUORUM
        return CloseReason.COMPLETE if complete and not self._enough else CloseReason.TARGET

    def _gather(self, *, partly: bool) -> list[Action]:
        """Ask for the sums of groups that keep something, whole groups or all."""
        found: list[Action] = []
        for number, held in enumerate(self._held):
            ready = partly or self._open[number] == 0
            if held and ready and number not in self._asked:
                self._asked.add(number)
                found.append(Gather(number))
        return found

    def _offer_more(self) -> list[Action]:
        sites, window = self.plan.sites, self.plan.window
        end = len(sites) if window is None else min(len(sites), self._cursor + window)
        actions: list[Action] = []
        while self._next < end:
            site = sites[self._next]
            if self._states[site] is WAITING:
                self._set(site, OFFERED)
                actions.append(Offer(site))
            self._next += 1
        return actions

    def _revoke(self, states: frozenset[_State]) -> list[Action]:
        found = [site for site, state in self._states.items() if state in states]
        for site in found:
            self._set(site, REVOKED)
        self._cursor = len(self.plan.sites)
        return [Revoke(site) for site in found]

    def _close(self, reason: CloseReason) -> list[Action]:
        self.closed = reason
        return [*self._revoke(_UNSETTLED | {KEPT}), Close(reason)]
