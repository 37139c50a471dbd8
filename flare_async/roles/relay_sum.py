"""The sum of one group in one round, at the relay that adds it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from flare_async.errors import (
    FlareError,
    LinkError,
    LinkLost,
    OfferGone,
    OfferNotFound,
    RemoteProtocolError,
    TransferError,
    UpdateRefused,
)
from flare_async.limits import MIB
from flare_async.model import ParamsType
from flare_async.net.messages import Messages
from flare_async.roles.behind import groups_behind
from flare_async.roles.partial_messages import (
    Contributor,
    Drop,
    Keep,
    PartialMessage,
    PartialTask,
    Pass,
    Take,
    Taken,
    Trouble,
    Underway,
    Untaken,
    ready_messages,
)
from flare_async.roles.places import Places
from flare_async.roles.relay_below import Answer, SumBelow, SumSetting
from flare_async.roles.steps import in_turns
from flare_async.roles.text import shortened
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flare_async.transfer.shelf import Offer

__all__ = ["RelaySum"]

PULLS = 2  # updates that are pulled at a time: the second hides the pauses of the first
KINDS = frozenset(ParamsType)
PROBLEM_BYTES = 500
INLINE_BYTES = 4 * MIB  # of model: a few milliseconds of arithmetic


@dataclass(slots=True)
class _Entry:
    """One site's update on its way into the sum."""

    take: Take
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    taken: bool = False
    kept: bool = False
    below: SumBelow | None = None  # the sum further down that it is in, if it is in one


class RelaySum:
    """Takes what it is told to take, adds what it is told to keep, and offers the sum.

    Updates are added in the order of the task's sites, as a server does with a group of its own.
    What is behind a relay that adds is added there, and comes as one: again like a group.
    Memory is the model, an accumulator and what is staged (``staging_bytes``, then a file); all of
    it goes when the channel ends, whatever was kept.
    """

    def __init__(
        self, setting: SumSetting, messages: Messages[PartialMessage], task: PartialTask
    ) -> None:
        self._setting = setting
        self._messages = messages
        self._task = task
        self._entries: dict[str, _Entry] = {}
        self._mean: WeightedMean | None = None
        self._begun = anyio.Event()
        self._passing = False
        self._offer: Offer | None = None
        context = setting.context
        self._places = Places(PULLS, context.limits.heartbeat_interval, context.clock)
        self._adding = asyncio.Lock()  # one adds at a time, and nobody while the sum is taken
        self._groups = groups_behind(setting.directory, task.sites, context.limits)
        self._below = [
            SumBelow(setting, via, dataclasses.replace(task, sites=tuple(sites)))
            for via, sites in self._groups.items()
        ]

    async def run(self) -> None:
        """Serve until the parent ends the channel; waits for its messages for ever.

        Pulls are bounded as ``Downloader.fetch`` is. Whatever ends it, nothing is left.

        Raises:
            RemoteProtocolError: the parent says what it must not.
            FlareError: the channel has failed, the model cannot be had, staging fails here, or
                a sum below is lost with updates that were kept.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._begin, name="fetch a model to add to")
                for below in self._below:
                    tasks.start_soon(below.run, name="a sum below")
                with suppress(anyio.EndOfStream):
                    while True:
                        self._handle(await self._messages.receive(), tasks)
                tasks.cancel_scope.cancel()
        finally:
            for below in self._below:
                below.close()
            if self._mean is not None:
                self._mean.close()
            if self._offer is not None:
                self._setting.shelf.withdraw(self._offer)

    def _handle(self, message: PartialMessage, tasks: TaskGroup) -> None:
        match message:
            case Take(site) if self._may_take(message):
                entry = self._entries[site] = _Entry(message)
                tasks.start_soon(self._take, entry, name=f"take an update of {site}")
            case Keep(site) if self._may_keep(site):
                self._keep(self._entries[site], tasks)
            case Drop(site) if site in self._entries and not self._entries[site].kept:
                self._leave_out(site)
            case Pass() if not self._passing and any(e.kept for e in self._entries.values()):
                self._passing = True
                tasks.start_soon(self._pass_on, name="pass a sum on")
            case _:
                raise RemoteProtocolError("unexpected", f"{type(message).__name__} of a sum")

    def _may_take(self, take: Take) -> bool:
        fresh = take.site in self._task.sites and take.site not in self._entries
        return fresh and not self._passing and take.params_type in KINDS

    def _keep(self, entry: _Entry, tasks: TaskGroup) -> None:
        entry.kept = True
        site = entry.take.site
        if entry.below is not None:
            entry.below.keep(site)
        else:
            self._sum().accept(site)
            tasks.start_soon(self._add, name="add")

    def _may_keep(self, site: str) -> bool:
        entry = self._entries.get(site)
        return entry is not None and entry.taken and not entry.kept and not self._passing

    def _leave_out(self, site: str) -> None:
        entry = self._entries.get(site)
        if entry is not None:
            entry.scope.cancel()
            if entry.below is not None:
                entry.below.drop(site)
        if self._mean is not None:
            self._mean.discard(site)

    def _sum(self) -> WeightedMean:
        if self._mean is None:
            raise RemoteProtocolError("unexpected", "the sum has not begun, or is over")
        return self._mean

    async def _begin(self) -> None:
        context, task = self._setting.context, self._task
        sink = MemorySink(memory_bytes=context.limits.memory_bytes)
        await context.downloader.fetch(self._messages.channel.session, task.model, sink)
        options = MeanOptions.of(task.rules)
        mean = WeightedMean(sink.tensors, order=task.sites, limits=context.limits, options=options)
        mean.group(list(self._groups.values()))
        self._mean = mean
        self._begun.set()

    async def _take(self, entry: _Entry) -> None:
        answer: Answer | None = None
        with entry.scope:
            await self._begun.wait()
            answer = await self._taken_below(entry) or await self._taken_here(entry.take)
        if isinstance(answer, Untaken):
            self._leave_out(entry.take.site)
        if answer is not None:
            entry.taken = isinstance(answer, Taken)
            self._messages.post(answer)

    async def _taken_below(self, entry: _Entry) -> Answer | None:
        """Have a relay below take an update; None says that none does."""
        take = entry.take
        entry.below = next((below for below in self._below if below.takes(take.site)), None)
        answer = None if entry.below is None else await entry.below.bring(take)
        if answer is None:
            entry.below = None
        return answer

    async def _taken_here(self, take: Take) -> Answer:
        try:
            await self._pull(take)
        except FlareError as exc:
            if type(exc) is TransferError:
                raise  # what a site does wrong has a name of its own: this is our side
            return untaken(take.site, exc)
        return Taken(take.site)

    async def _pull(self, take: Take) -> None:
        site, mean = take.site, self._sum()
        async with self._places.one():
            session = self._setting.directory.sites.get(site)
            if session is None:
                raise LinkLost(site, "is not connected here")
            sink = mean.stage(site, take.weight, ParamsType(take.params_type))
            await self._setting.context.downloader.fetch(session, take.update, sink)
        await in_turns(mean.checking(site))

    async def _add(self) -> None:
        async with self._adding:
            if self._mean is not None:
                await in_turns(self._mean.summing())

    async def _pass_on(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._say_underway, name="a sum is underway")
            async with self._adding:
                await self._sum_up(self._sum())
            tasks.cancel_scope.cancel()

    async def _sum_up(self, mean: WeightedMean) -> None:
        for site in self._task.sites:
            if site not in self._entries or not self._entries[site].kept:
                self._leave_out(site)
        async with anyio.create_task_group() as tasks:
            for below in self._below:
                if below.keeps:
                    tasks.start_soon(below.gather, mean, name="gather a sum below")
        await in_turns(mean.summing())
        tensors = await sum_of(mean)
        self._mean = None
        self._pass(tensors, mean.statistics.sites)

    def _pass(self, tensors: TensorSet, added: Sequence[tuple[str, float]]) -> None:
        parent, task = self._messages.channel.peer, self._task
        self._offer = self._setting.shelf.put(tensors, version=task.round_number, readers=[parent])
        contributors = [
            Contributor(site, self._entries[site].take.attempt, weight) for site, weight in added
        ]
        for message in ready_messages(task.epoch, self._offer.ref, contributors):
            self._messages.post(message)

    async def _say_underway(self) -> None:
        # All that a sum waits for is bounded by progress, so as long as it waits something moves.
        while True:
            await anyio.sleep(self._setting.context.limits.heartbeat_interval)
            if self._messages.channel.is_open:
                self._messages.post(Underway())


async def sum_of(mean: WeightedMean) -> TensorSet:
    """Return the sum; a large one is computed off the loop, and cancelling waits for that."""
    if mean.nbytes <= INLINE_BYTES:
        return mean.partial()
    found: list[TensorSet] = []
    with anyio.CancelScope(shield=True):
        found.append(await asyncio.to_thread(mean.partial))
    return found[0]


def untaken(site: str, error: FlareError) -> Untaken:
    """Return what the parent is told of an update that could not be taken."""
    trouble, problem = Trouble.FAILED, f"{error.code}: {error}"
    if isinstance(error, UpdateRefused):
        tensor = "" if error.tensor is None else f"tensor {error.tensor!r}: "
        trouble, problem = Trouble.REFUSED, tensor + error.problem
    elif (
        isinstance(error, LinkError | OfferGone | OfferNotFound)
        or getattr(error, "reset_code", 0) == ResetCode.UNREACHABLE
    ):
        trouble = Trouble.GONE  # also where the site is back and does not know of it any more
    return Untaken(site, trouble, shortened(problem, PROBLEM_BYTES))
