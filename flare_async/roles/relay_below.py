"""A part of a group's sum that a relay further down adds, as the relay above it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import anyio
import structlog

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.model import ParamsType
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    PARTIAL_TOPIC,
    Added,
    Drop,
    Keep,
    PartialMessage,
    PartialReady,
    PartialTask,
    Pass,
    Take,
    Taken,
    Underway,
    Untaken,
)
from flare_async.roles.partial_report import PartialReport
from flare_async.roles.steps import in_turns
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.sums import Share
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Answer", "SumBelow", "SumSetting"]

Answer: TypeAlias = Taken | Untaken
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SumSetting:
    """What all sums of a relay share."""

    context: Context
    directory: Directory
    shelf: Shelf


class _State(Enum):
    OPEN = "open"
    PASSING = "passing"
    DONE = "done"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class _Part:
    """One site's update on its way into the sum below."""

    take: Take
    over: anyio.Event = field(default_factory=anyio.Event)
    answer: Answer | None = None
    kept: bool = False


class SumBelow:
    """Has a relay below take, keep and add what this relay was told to take and keep.

    It is the sum's task again, with the sites that are behind that relay. What it takes and does
    not keep can be taken otherwise when it is lost; with anything kept, the whole sum is lost.
    """

    def __init__(self, setting: SumSetting, via: Session, task: PartialTask) -> None:
        self._setting = setting
        self._via = via
        self._parts: dict[str, _Part] = {}
        self._report = PartialReport(task.epoch)
        self._state = _State.OPEN
        self._heard_at = 0.0  # since the sum was asked for
        self._ready: PartialReady | None = None
        self._came = anyio.Event()
        self._messages: Messages[PartialMessage] | None = None
        try:
            options = OpenOptions(urgent=True, window=FIRST_WINDOW)
            channel = via.open(PARTIAL_TOPIC, PARTIAL_TASK_SCHEMA.encode(task), options)
        except FlareError:
            self._state = _State.LOST
        else:
            self._messages = Messages(channel, PARTIAL_SCHEMA)

    def takes(self, site: str) -> bool:
        """Return whether a site's update can go this way now."""
        way = self._setting.directory.via(site)
        return self._state is _State.OPEN and way is self._via and site not in self._parts

    @property
    def keeps(self) -> bool:
        """Whether anything in it is to be kept."""
        return any(part.kept for part in self._parts.values())

    async def bring(self, take: Take) -> Answer | None:
        """Have a site's update taken; None says that this sum is lost, and that it was not.

        Waits for the relay below as long as its session lives; cancelling drops the update.
        """
        part = self._parts[take.site] = _Part(take)
        self._post(take)
        try:
            await part.over.wait()
        except BaseException:
            self.drop(take.site)
            raise
        return part.answer

    def keep(self, site: str) -> None:
        """Have an update kept that was taken.

        Raises:
            LinkLost: the sum is lost, and with it what it had taken.
        """
        if self._state is not _State.OPEN:
            raise LinkLost(self._via.peer, f"its sum with {site} is lost")
        self._parts[site].kept = True
        self._post(Keep(site))

    def drop(self, site: str) -> None:
        """Have an update dropped that is not kept; harmless when it never came."""
        part = self._parts.get(site)
        if self._state is _State.OPEN and part is not None and not part.kept:
            self._post(Drop(site))

    async def run(self) -> None:
        """Talk to the relay below until its sum is here, or lost.

        Waits as long as its session lives; for the sum itself ``stall_timeout`` at a time.

        Raises:
            FlareError: it is lost with updates that were kept.
        """
        problem: FlareError | None = None
        try:
            while self._messages is not None and self._state in {_State.OPEN, _State.PASSING}:
                await self._hear(self._messages)
        except FlareError as exc:
            problem = exc
        except anyio.EndOfStream:
            problem = LinkLost(self._via.peer, "it has ended its sum")
        finally:
            self._lose()
        if problem is not None and self.keeps:
            raise problem
        if problem is not None:
            log.warning("sum_below_lost", relay=self._via.peer, problem=str(problem))

    async def gather(self, mean: WeightedMean) -> None:
        """Ask for the sum of what is kept, pull it and have ``mean`` admit it whole.

        Waits until it comes, which ``run`` bounds, and for the pull as ``Downloader.fetch`` does.

        Raises:
            FlareError: it cannot be pulled, or is not admissible.
        """
        self._state = _State.PASSING
        self._heard_at = self._setting.context.clock.now()
        self._post(Pass())
        await self._came.wait()
        if self._ready is None:
            raise LinkLost(self._via.peer, "its sum is lost")
        shares = [
            Share(site, part.take.weight, ParamsType(part.take.params_type))
            for site, part in self._parts.items()
            if part.kept
        ]
        sink = mean.stage_partial(shares)
        await self._setting.context.downloader.fetch(self._via, self._ready.update, sink)
        await in_turns(mean.admitting_partial(shares))
        if self._messages is not None and self._messages.channel.is_open:
            self._messages.channel.end()

    def close(self) -> None:
        """Let the relay below forget it; harmless when it is over."""
        if self._messages is not None:
            self._messages.channel.reset(ResetCode.CANCELLED, "the sum is over")

    def _post(self, message: PartialMessage) -> None:
        if self._messages is not None and self._messages.channel.is_open:
            self._messages.post(message)

    async def _hear(self, messages: Messages[PartialMessage]) -> None:
        limits = self._setting.context.limits
        message: PartialMessage | None = None
        with anyio.move_on_after(limits.heartbeat_interval):
            message = await messages.receive()
        silent = self._setting.context.clock.now() - self._heard_at
        match message:
            case None if self._state is _State.PASSING and silent > limits.stall_timeout:
                raise LinkLost(self._via.peer, f"no sum for {limits.stall_timeout:g} s")
            case None:
                self._look_for_kept()
            case Taken(site) | Untaken(site):
                self._answered(site, message)
            case Added() if self._state is _State.PASSING:
                self._report.note(message, len(self._parts))
            case Underway() if self._state is _State.PASSING:
                self._heard_at = self._setting.context.clock.now()
            case PartialReady() if self._state is _State.PASSING:
                self._take_over(message)
            case _:
                raise RemoteProtocolError("unexpected", f"{type(message).__name__} of a sum below")

    def _look_for_kept(self) -> None:
        """Give up a relay that cannot be reached, and whose sites have come back elsewhere."""
        directory = self._setting.directory
        kept = [site for site, part in self._parts.items() if part.kept]
        moved = [s for s in kept if s in directory.sites and directory.via(s) is not self._via]
        if moved and not self._via.attached:
            raise LinkLost(self._via.peer, f"{', '.join(moved)[:500]} came back elsewhere")

    def _answered(self, site: str, answer: Answer) -> None:
        part = self._parts.get(site)
        if part is None or part.over.is_set():
            raise RemoteProtocolError("unexpected", f"a word about {site[:40]!a}")
        part.answer = answer
        part.over.set()

    def _take_over(self, ready: PartialReady) -> None:
        kept = [(site, part.take) for site, part in self._parts.items() if part.kept]
        self._report.check(ready, [(site, take.attempt, take.weight) for site, take in kept])
        self._state = _State.DONE
        self._ready = ready
        self._came.set()

    def _lose(self) -> None:
        if self._state is not _State.DONE:
            self._state = _State.LOST
            self._came.set()
            self.close()
        for part in self._parts.values():
            part.over.set()
