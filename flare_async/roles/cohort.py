"""The sites of one job, and the rounds that are run with them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from flare_async.errors import ConfigError
from flare_async.net.groups import single_error
from flare_async.roles.machine import RoundPlan
from flare_async.roles.messages import Scalar
from flare_async.roles.round import RoundObserver, RoundSetting, RoundTask, Updates
from flare_async.roles.server import Server
from flare_async.transfer.reducer import Reducer, SteppedReducer
from flare_async.transfer.tensors import TensorSet

__all__ = ["Cohort", "RoundOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOptions:
    """How a round picks its sites and when it closes.

    ``size`` updates close it (default: those of all sites); ``over_select`` asks that many times
    more sites than are needed. ``deadline`` is seconds from the start of the round.

    Raises:
        ConfigError: a number is out of its range.
    """

    quorum: int | None = None
    deadline: float | None = None
    size: int | None = None
    over_select: float = 1.0

    def __post_init__(self) -> None:
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigError("deadline", self.deadline, "seconds above 0 are needed")
        if not 1 <= self.over_select < math.inf:
            raise ConfigError("over_select", self.over_select, "a factor of at least 1 is needed")


class Cohort:
    """The sites that take part in a job, in the order in which their updates are summed."""

    def __init__(
        self,
        server: Server,
        sites: Sequence[str],
        observer: RoundObserver,
        window: int | None = None,
    ) -> None:
        self.server = server
        self.sites = tuple(sites)
        self._observer = observer
        self._window = window

    def choose(self, options: RoundOptions, number: int) -> tuple[str, ...]:
        """Return the sites of a round: all, or a seeded draw of ``size`` times ``over_select``."""
        if options.size is None:
            return self.sites
        count = min(len(self.sites), math.ceil(options.size * options.over_select))
        if count == len(self.sites):
            return self.sites
        stream = self.server.context.random.stream(f"sites of round {number}")
        chosen = set(stream.sample(range(len(self.sites)), count))
        return tuple(site for index, site in enumerate(self.sites) if index in chosen)

    @asynccontextmanager
    async def round(
        self,
        task: RoundTask,
        model: TensorSet,
        *,
        options: RoundOptions | None = None,
        reducer: Reducer | None = None,
        weigh: Callable[[str, Mapping[str, Scalar]], float] | None = None,
        sites: Sequence[str] | None = None,
    ) -> AsyncIterator[Updates]:
        """Offer ``model`` and the task to the sites; the block owns their leases.

        With a ``reducer`` each update is staged into it and admitted as it comes, weighed by
        ``weigh(site, meta)``; without one it arrives with its tensors. Leaving the block normally
        sends *committed* to the sites whose updates were taken and resets all others; an exception
        resets everybody.

        Raises:
            ConfigError: the options do not fit the number of sites.
            QuorumNotReached: (from iterating) too few updates came.
        """
        options = options or RoundOptions()
        chosen = tuple(sites) if sites is not None else self.choose(options, task.number)
        plan = self._plan(options, chosen)
        offering = self.server.shelf.offer(model, readers=chosen, version=task.number)
        # What the body raises leaves this block as it is, not in a group.
        with single_error():
            async with offering as offer, anyio.create_task_group() as tasks:
                stepped = reducer if isinstance(reducer, SteppedReducer) else None
                setting = RoundSetting(
                    self.server, task, plan, offer, self._observer, reducer, stepped, weigh
                )
                with Updates(setting, tasks) as updates:
                    yield updates
                tasks.cancel_scope.cancel()

    def _plan(self, options: RoundOptions, chosen: tuple[str, ...]) -> RoundPlan:
        target = min(options.size or len(chosen), len(chosen))
        quorum = options.quorum if options.quorum is not None else target
        try:
            return RoundPlan(chosen, quorum, target, options.deadline, self._window)
        except ValueError as exc:
            raise ConfigError("quorum", quorum, str(exc)) from exc
