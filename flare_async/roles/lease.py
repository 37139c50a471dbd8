"""One site's part of a round: the task's channel from its open to the last receipt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from flare_async.errors import FlareError, RemoteProtocolError, TrainingFailed, UpdateRefused
from flare_async.model import ParamsType
from flare_async.net.channel import Channel
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.messages import (
    COMMITTED,
    OFFER_SCHEMA,
    RECEIVED,
    REFUSED,
    TASK_SCHEMA,
    TASK_TOPIC,
    Receipt,
    TaskFailed,
    TaskMessage,
    TaskOffer,
    TaskResult,
)
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.sink import MemorySink, TensorSink
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

if TYPE_CHECKING:
    from flare_async.roles.round import RoundSetting, Update, Updates

__all__ = ["Lease"]

STEPS_A_TURN = 4  # of a chunk of a MiB, about 40 microseconds each


class Lease:
    """Offers the task, pulls the result into the reducer's staging, keeps the channel to commit.

    ``run`` ends when the update is admitted and added, or has failed; ``commit`` or ``revoke``
    then end the channel. An update that was admitted cannot be taken back.
    """

    def __init__(self, setting: RoundSetting, site: str, updates: Updates) -> None:
        self._setting = setting
        self._site = site
        self._updates = updates
        self._clock = setting.server.context.clock
        self._started = self._clock.now()
        self._scope = anyio.CancelScope()
        self._stream: Messages[TaskMessage] | None = None
        self._taken = False

    async def run(self) -> None:
        """Carry the lease through; waits for the site's work as long as its session lives.

        The round's deadline bounds it by ``revoke``; cancelling resets the channel.
        """
        with self._scope:
            try:
                update = await self._exchange()
            except UpdateRefused as exc:
                self._finish_channel(Receipt(REFUSED, exc.problem[:1000]))
                self._fail(SiteStatus.REFUSED, str(exc))
            except TrainingFailed as exc:
                self._finish_channel(None)
                self._fail(SiteStatus.FAILED, exc.problem)
            except FlareError as exc:
                self._reset(ResetCode.INTERNAL, exc.code)
                self._fail(SiteStatus.FAILED, str(exc))
            except BaseException:
                self._reset(ResetCode.CANCELLED, "the round ended")
                raise
            else:
                self._take(update)
                await self._sum()
                self._updates.deliver(update)

    def commit(self) -> None:
        """Send the last receipt, if the update was taken and the site is still there."""
        if self._taken:
            self._finish_channel(Receipt(COMMITTED))

    def revoke(self, reason: str) -> SiteRecord:
        """Take the task back."""
        self._reset(ResetCode.LATE, reason)
        self._scope.cancel()
        return self._record(SiteStatus.LATE, reason=reason)

    async def _exchange(self) -> Update:
        session = self._setting.server.sites.get(self._site)
        if session is None:
            raise TrainingFailed(self._site, "is not connected")
        result = await self._ask(session)
        weight = 1.0
        if self._setting.weigh is not None:
            weight = self._setting.weigh(self._site, result.meta)
        return await self._pull(session, result, weight)

    async def _ask(self, session: Session) -> TaskResult:
        task, plan = self._setting.task, self._setting.plan
        offer = TaskOffer(
            job=task.job,
            task=task.name,
            round_number=task.number,
            total_rounds=task.total,
            attempt=0,
            epoch=0,
            model=self._setting.offer.ref,
            remaining=plan.deadline,
            keep_until=task.keep_until,
            meta=task.meta,
        )
        header = OFFER_SCHEMA.encode(offer)
        channel = session.open(TASK_TOPIC, header, OpenOptions(urgent=True, window=FIRST_WINDOW))
        stream: Messages[TaskMessage] = Messages(channel, TASK_SCHEMA)
        self._stream = stream
        match message := await self._next(stream):
            case TaskResult():
                return message
            case TaskFailed(problem, details):
                raise TrainingFailed(self._site, problem, details)
            case _:
                raise RemoteProtocolError("unexpected", type(message).__name__)

    async def _next(self, stream: Messages[TaskMessage]) -> TaskMessage:
        try:
            return await stream.receive()
        except anyio.EndOfStream:
            raise RemoteProtocolError("no_result", f"{self._site} ended its task early") from None

    async def _pull(self, session: Session, result: TaskResult, weight: float) -> Update:
        from flare_async.roles.round import Update

        tensors = None
        if result.update is not None:
            fetch = self._setting.server.context.downloader.fetch
            reducer = self._setting.reducer
            if reducer is None:
                sink = MemorySink(memory_bytes=self._setting.server.context.limits.memory_bytes)
                await fetch(session, result.update, sink)
                tensors = sink.tensors
            else:
                await fetch(session, result.update, self._stage(reducer, result, weight))
                await self._admit(reducer)
        return Update(
            site=self._site,
            params_type=result.params_type,
            metrics=result.metrics,
            meta=result.meta,
            weight=weight,
            seconds=result.seconds,
            received=result.received,
            nbytes=0 if result.update is None else result.update.nbytes,
            tensors=tensors,
        )

    def _stage(self, reducer: Reducer, result: TaskResult, weight: float) -> TensorSink:
        try:
            kind = ParamsType(result.params_type)
        except ValueError as exc:
            raise UpdateRefused(self._site, f"params_type {result.params_type!r:.40}") from exc
        return reducer.stage(self._site, weight, kind)

    async def _admit(self, reducer: Reducer) -> None:
        if self._setting.stepped is None:
            reducer.commit(self._site)
        else:
            await in_turns(self._setting.stepped.admitting(self._site))

    def _take(self, update: Update) -> None:
        # No await between the admission and this: whoever closes the round finds it settled.
        self._taken = True
        if self._stream is not None and self._stream.channel.is_open:
            self._stream.post(Receipt(RECEIVED))
        record = self._record(SiteStatus.OK, update=update)
        self._updates.settle(self._site, record, update)

    async def _sum(self) -> None:
        if self._setting.stepped is not None:
            await in_turns(self._setting.stepped.summing())

    def _fail(self, status: SiteStatus, reason: str) -> None:
        self._updates.settle(self._site, self._record(status, reason=reason), None)

    def _record(
        self, status: SiteStatus, *, reason: str = "", update: Update | None = None
    ) -> SiteRecord:
        offer = self._setting.offer
        return SiteRecord(
            site=self._site,
            status=status,
            started=self._started,
            ended=self._clock.now(),
            train_seconds=0.0 if update is None else update.seconds,
            weight=0.0 if update is None else update.weight,
            metrics={} if update is None else dict(update.metrics),
            reason=reason,
            bytes_down=offer.served[self._site],
            bytes_up=0 if update is None else update.nbytes,
        )

    def _finish_channel(self, receipt: Receipt | None) -> None:
        channel = self._channel()
        if channel is not None and channel.is_open and self._stream is not None:
            if receipt is not None:
                self._stream.post(receipt)
            channel.end()

    def _reset(self, code: ResetCode, message: str) -> None:
        channel = self._channel()
        if channel is not None:
            channel.reset(code, message)

    def _channel(self) -> Channel | None:
        return None if self._stream is None else self._stream.channel


async def in_turns(steps: Iterator[None]) -> None:
    """Take steps of a chunk; large arithmetic must not keep the loop to itself."""
    for count, _ in enumerate(steps):
        if count % STEPS_A_TURN == STEPS_A_TURN - 1:
            await anyio.lowlevel.checkpoint()
