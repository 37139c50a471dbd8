"""The sums of a round: which site's update goes into which of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from flare_async.net.callbacks import start_soon
from flare_async.net.session import Session
from flare_async.roles.behind import groups_behind
from flare_async.roles.claim import Ledger
from flare_async.roles.partial import Partial
from flare_async.roles.setting import Group, RoundSetting
from flare_async.transfer.reducer import GroupReducer

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Partials", "with_sums"]


class Partials:
    """One sum a group at a time; one that is lost is begun anew while its relay is there.

    That costs no training: sites keep their updates on offer until a sum with them is admitted.
    """

    def __init__(self, setting: RoundSetting, ledger: Ledger, tasks: TaskGroup) -> None:
        self._setting = setting
        self._ledger = ledger
        self._tasks = tasks
        self._group_of = {
            site: number for number, group in enumerate(setting.groups) for site in group.sites
        }
        self._current: dict[int, Partial] = {}
        self._epochs = dict.fromkeys(range(len(setting.groups)), 0)

    def start(self) -> None:
        """Begin all sums, so that relays get the model early."""
        for number in self._epochs:
            self._begin(number)
        self._setting.server.directory.rounds.add(self)

    def of(self, site: str, session: Session) -> Partial | None:
        """Return the sum that a site's update goes into; None says that it comes by itself."""
        number = self._group_of.get(site)
        if number is None:
            return None
        via = self._setting.groups[number].via
        if self._setting.server.directory.via(site) is not via or via.ended or session.ended:
            return None
        if self._current[number].lost and self._epochs[number] <= self._most:
            self._begin(number)
        partial = self._current[number]
        return partial if partial.takes(site) else None

    def gather(self, number: int) -> None:
        """Ask for a group's sum."""
        self._current[number].gather()

    @property
    def _most(self) -> int:
        return self._setting.server.context.limits.max_resends

    def relay_joined(self, relay: str) -> None:
        """Let a relay that comes during the round read its model, for the sites behind it."""
        offer = self._setting.offer
        if offer.readers is not None:
            offer.readers |= {relay}

    def _begin(self, number: int) -> None:
        group, epoch = self._setting.groups[number], self._epochs[number]
        self._epochs[number] += 1
        partial = self._current[number] = Partial(self._setting, group, epoch, self._ledger)
        start_soon(self._tasks, partial.run, name=f"sum of {group.via.peer}")


def with_sums(setting: RoundSetting) -> RoundSetting:
    """Return a round in which relays add what is behind them, if its reducer takes sums."""
    reducer = setting.reducer
    if not isinstance(reducer, GroupReducer) or not setting.task.wants_update:
        return setting
    server = setting.server
    behind = groups_behind(server.directory, setting.plan.sites, server.context.limits)
    rules = reducer.group(list(behind.values())) if behind else None
    if rules is None:
        return setting
    groups = tuple(Group(via, tuple(sites), rules) for via, sites in behind.items())
    plan = dataclasses.replace(setting.plan, groups=tuple(group.sites for group in groups))
    return dataclasses.replace(setting, plan=plan, groups=groups)
