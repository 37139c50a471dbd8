"""The sum of one group in one round, at the relay that adds it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from flare_async.errors import (
    FlareError,
    LinkError,
    LinkLost,
    RemoteProtocolError,
    TransferError,
    UpdateRefused,
)
from flare_async.limits import MIB
from flare_async.model import ParamsType
from flare_async.net.messages import Messages
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory
from flare_async.roles.partial_messages import (
    Contributor,
    Drop,
    Keep,
    PartialMessage,
    PartialReady,
    PartialTask,
    Pass,
    Take,
    Taken,
    Trouble,
    Untaken,
)
from flare_async.roles.steps import in_turns
from flare_async.roles.text import shortened
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flare_async.transfer.shelf import Offer, Shelf

__all__ = ["RelaySum", "SumSetting"]

PULLS = 2  # updates that are pulled at a time: the second hides the pauses of the first
PROBLEM_BYTES = 500
INLINE_BYTES = 4 * MIB  # of model: a few milliseconds of arithmetic


@dataclass(frozen=True, slots=True)
class SumSetting:
    """What all sums of a relay share."""

    context: Context
    directory: Directory
    shelf: Shelf


@dataclass(slots=True)
class _Entry:
    """One site's update on its way into the sum."""

    take: Take
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    taken: bool = False
    kept: bool = False


class RelaySum:
    """Takes what it is told to take, adds what it is told to keep, and offers the sum.

    Updates are added in the order of the task's sites, as a server does with a group of its own.
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
        self._room = asyncio.Semaphore(PULLS)

    async def run(self) -> None:
        """Serve until the parent ends the channel; waits for its messages for ever.

        Pulls are bounded as ``Downloader.fetch`` is. Whatever ends it, nothing is left.

        Raises:
            RemoteProtocolError: the parent says what it must not.
            FlareError: the channel has failed, the model cannot be had, or staging fails here.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._begin, name="fetch a model to add to")
                with suppress(anyio.EndOfStream):
                    while True:
                        self._handle(await self._messages.receive(), tasks)
                tasks.cancel_scope.cancel()
        finally:
            if self._mean is not None:
                self._mean.close()
            if self._offer is not None:
                self._setting.shelf.withdraw(self._offer)

    def _handle(self, message: PartialMessage, tasks: TaskGroup) -> None:
        match message:
            case Take(site) if self._may_take(site):
                entry = self._entries[site] = _Entry(message)
                tasks.start_soon(self._take, entry, name=f"take an update of {site}")
            case Keep(site) if self._may_keep(site):
                self._entries[site].kept = True
                self._sum().accept(site)
                tasks.start_soon(self._add, name="add")
            case Drop(site) if site in self._entries and not self._entries[site].kept:
                self._leave_out(site)
            case Pass() if not self._passing and any(e.kept for e in self._entries.values()):
                self._passing = True
                tasks.start_soon(self._pass_on, name="pass a sum on")
            case _:
                raise RemoteProtocolError("unexpected", f"{type(message).__name__} of a sum")

    def _may_take(self, site: str) -> bool:
        return site in self._task.sites and site not in self._entries and not self._passing

    def _may_keep(self, site: str) -> bool:
        entry = self._entries.get(site)
        return entry is not None and entry.taken and not entry.kept and not self._passing

    def _leave_out(self, site: str) -> None:
        entry = self._entries.get(site)
        if entry is not None:
            entry.scope.cancel()
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
        self._mean = WeightedMean(
            sink.tensors, order=task.sites, limits=context.limits, options=options
        )
        self._begun.set()

    async def _take(self, entry: _Entry) -> None:
        answer: Taken | Untaken = Taken(entry.take.site)
        with entry.scope:
            await self._begun.wait()
            try:
                await self._pull(entry.take)
                entry.taken = True
            except FlareError as exc:
                if type(exc) is TransferError:
                    raise  # what a site does wrong has a name of its own: this is our side
                self._leave_out(entry.take.site)
                answer = untaken(entry.take.site, exc)
        if entry.taken or isinstance(answer, Untaken):
            self._messages.post(answer)

    async def _pull(self, take: Take) -> None:
        site, mean = take.site, self._sum()
        async with self._room:
            session = self._setting.directory.sites.get(site)
            if session is None:
                raise LinkLost(site, "is not connected here")
            sink = mean.stage(site, take.weight, ParamsType(take.params_type))
            await self._setting.context.downloader.fetch(session, take.update, sink)
        await in_turns(mean.checking(site))

    async def _add(self) -> None:
        if self._mean is not None:
            await in_turns(self._mean.summing())

    async def _pass_on(self) -> None:
        mean = self._sum()
        for site in self._task.sites:
            if site not in self._entries or not self._entries[site].kept:
                self._leave_out(site)
        await in_turns(mean.summing())
        tensors = await sum_of(mean)
        added = mean.statistics.sites
        self._mean = None
        parent = self._messages.channel.peer
        number = self._task.round_number
        self._offer = self._setting.shelf.put(tensors, version=number, readers=[parent])
        contributors = tuple(
            Contributor(site, self._entries[site].take.attempt, weight) for site, weight in added
        )
        self._messages.post(PartialReady(self._task.epoch, self._offer.ref, contributors))


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
    elif isinstance(error, LinkError) or getattr(error, "reset_code", 0) == ResetCode.UNREACHABLE:
        trouble = Trouble.GONE
    return Untaken(site, trouble, shortened(problem, PROBLEM_BYTES))
