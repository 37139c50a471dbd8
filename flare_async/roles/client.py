"""The client: connects to its server and works on the tasks that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError, SessionGone, TrainingFailed
from flare_async.net.backoff import Backoff
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.entrance import opened
from flare_async.roles.log_feed import LogFeed
from flare_async.roles.log_messages import LOG_TOPIC
from flare_async.roles.log_record import LogRecord
from flare_async.roles.messages import (
    OFFER_SCHEMA,
    RECEIVED,
    TASK_TOPIC,
    Receipt,
    Scalar,
    TaskFailed,
    TaskOffer,
    TaskResult,
)
from flare_async.roles.readiness import Prepare, get_ready
from flare_async.roles.start_messages import START_TOPIC
from flare_async.roles.stream import TaskStream
from flare_async.roles.text import described, shortened, where
from flare_async.transfer.shelf import Offer
from flare_async.transfer.sink import MemorySink, TensorSink
from flare_async.transfer.source import TensorSource
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode

__all__ = ["ChoosesSink", "Client", "ModelSink", "SiteResult", "SiteTask", "Worker"]

DETAILS_BYTES = 16_384
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SiteTask:
    """A task as a site's worker gets it; ``tensors`` are shared and must not be written to."""

    job: str
    task: str
    round_number: int
    total_rounds: int
    tensors: TensorSet
    meta: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteResult:
    """What a worker made of a task; the client owns ``tensors`` from now on.

    ``received`` are the metrics of the model as it came, ``metrics`` those of the work.
    """

    tensors: TensorSet | TensorSource | None
    params_type: str
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    seconds: float = 0.0
    received: Mapping[str, float] = field(default_factory=dict)


class Worker(Protocol):
    """Does a site's work."""

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task; cancelled when the server revokes it. Raises TrainingFailed."""


class ModelSink(TensorSink, Protocol):
    """A sink whose tensors a worker can have."""

    @property
    def tensors(self) -> TensorSet:
        """The tensors, once they are whole. Raises TransferError."""


@runtime_checkable
class ChoosesSink(Protocol):
    """A worker that says where a model that is pulled goes, instead of this process's memory."""

    def sink(self, memory_bytes: int | None) -> ModelSink:
        """Return a new sink, which accepts at most so many bytes."""


class Client:
    """One site. ``gate`` bounds how many tasks of a process hold a model at once.

    ``prepare(notice)`` makes the site ready for a job before its first task.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        worker: Worker,
        gate: AbstractAsyncContextManager[object] | None = None,
        *,
        prepare: Prepare | None = None,
    ) -> None:
        self.context = context
        self.name = name
        self.shelf = context.shelf(name)
        self._worker = worker
        self._gate = gate or nullcontext()
        self._prepare = prepare
        self._endpoint = context.endpoint(name, "client")
        self._logs = LogFeed(context.clock, context.random, context.limits)
        self._round = ("", 0)  # the job and the round of the latest task

    def log(self, record: LogRecord) -> None:
        """Send a record to the server when there is room; never waits and never fails."""
        self._logs.add(record, *self._round)

    async def run(self, address: str) -> None:
        """Connect and serve until the server says goodbye.

        Waits for tasks for ever. Connecting is tried again for ``start_timeout``; a link that is
        lost is replaced by another one within ``session_grace``, and a server that has restarted
        meanwhile gets a new session. Cancelling says goodbye and cancels the tasks under way.

        Raises:
            LinkError: no connection in time, or the link was lost for good.
        """
        clock, limits = self.context.clock, self.context.limits
        backoff = Backoff(self.context.random, "begin again", limits.retry_cap)
        while True:
            began = clock.now()
            try:
                async with opened(self.context, self._endpoint, address) as session:
                    await self._serve(session)
            except SessionGone as exc:
                log.info("session_gone", site=self.name, error=str(exc))
            else:
                return
            if clock.now() - began > backoff.bound:
                backoff.reset()
            await anyio.sleep(backoff.pause())

    async def _serve(self, session: Session) -> None:
        self.shelf.attach(session)
        async for channel in session:
            if channel.topic == TASK_TOPIC:
                self.context.tasks.start_soon(self._task, channel, name=f"task at {self.name}")
            elif channel.topic == START_TOPIC:
                ready = partial(get_ready, channel, self.context.limits, self._prepare)
                self.context.tasks.start_soon(ready, name=f"start at {self.name}")
            elif channel.topic == LOG_TOPIC:
                self.context.tasks.start_soon(
                    self._logs.serve, channel, name=f"records of {self.name}"
                )
            else:
                channel.reset(ResetCode.REFUSED, "a site takes tasks only")

    async def _task(self, channel: Channel) -> None:
        stream = TaskStream(channel)
        with anyio.CancelScope() as scope:
            channel.on_failed = scope.cancel  # a reset is the revocation of the lease
            if not channel.is_open:  # revoked in the same read as it came
                return
            try:
                failed = await self._attempt(stream)
            except BaseException:
                stream.reset(ResetCode.CANCELLED, "the site stops")
                raise
            if failed is not None:
                stream.finish(failed)

    async def _attempt(self, stream: TaskStream) -> TaskFailed | None:
        """Do the task; return what to tell the server when it failed and can be told."""
        try:
            offer = OFFER_SCHEMA.decode(stream.channel.header, self.context.limits)
            self._check(offer)
            await self._work(stream, offer)
        except TrainingFailed as exc:
            return self._failed(exc.problem, exc.details, exc.code)
        except RemoteProtocolError as exc:
            stream.reset(ResetCode.PROTOCOL, exc.reason)
        except FlareError as exc:
            if stream.channel.is_open:  # else it was revoked, which is no trouble
                log.info("task_given_up", site=self.name, code=exc.code, error=str(exc))
            return self._failed(f"{exc.code}: {exc}", code=exc.code)
        except Exception as exc:  # noqa: BLE001 - others live in the same process
            problem = described(exc)
            log.error("task_broke", site=self.name, error=problem, at=where(exc))  # noqa: TRY400
            return self._failed(problem)
        return None

    def _check(self, offer: TaskOffer) -> None:
        if not offer.job or not offer.task:
            lacking = "task" if offer.job else "job"
            raise TrainingFailed(self.name, f"the task's metadata lack {lacking!r}")

    def _failed(self, problem: str, details: str = "", code: str = "") -> TaskFailed:
        most = min(DETAILS_BYTES, self.context.limits.control_bytes // 4)
        told = shortened(problem, most), shortened(details, most, tail=True)
        return TaskFailed(*told, logs=self._logs.waiting, code=code)

    async def _work(self, stream: TaskStream, offer: TaskOffer) -> None:
        async with self._gate:
            held, message = await self._train(stream, offer)
        try:
            stream.post(message)
            await self._wait_for(stream, offer.keep_until)
            if held is not None:
                self.shelf.withdraw(held)
                held = None  # its tensors too: the round may go on for long
            await self._wait_for(stream, "")
            stream.finish()
        finally:
            if held is not None:
                self.shelf.withdraw(held)

    async def _train(self, stream: TaskStream, offer: TaskOffer) -> tuple[Offer | None, TaskResult]:
        # The tensors live in this frame only: what is waited for later is held by the offer alone.
        sink = self._sink(stream.channel.session)
        await self.context.downloader.fetch(stream.channel.session, offer.model, sink)
        self._round = offer.job, offer.round_number
        work = self._worker.run(
            SiteTask(
                offer.job,
                offer.task,
                offer.round_number,
                offer.total_rounds,
                sink.tensors,
                offer.meta,
            )
        )
        result = await self.context.lag.steps(work, f"{type(self._worker).__qualname__}.run")
        held = None
        if result.tensors is not None:
            held = self.shelf.put(result.tensors, readers=[stream.channel.peer])
        ref = None if held is None else held.ref
        message = TaskResult(
            ref,
            result.params_type,
            result.metrics,
            result.meta,
            result.seconds,
            result.received,
            self._logs.waiting,
        )
        return held, message

    def _sink(self, session: Session) -> ModelSink:
        worker, most = self._worker, self.context.limits.memory_bytes
        # What comes by reference is nobody's to write: it is adopted where it is.
        if isinstance(worker, ChoosesSink) and not session.link.by_reference:
            return worker.sink(most)
        return MemorySink(memory_bytes=most)

    async def _wait_for(self, stream: TaskStream, state: str) -> None:
        # Until that receipt, or the end of the server's messages; a refusal ends the wait too.
        try:
            while True:
                message = await stream.receive()
                if not isinstance(message, Receipt):
                    raise RemoteProtocolError("unexpected", type(message).__name__)
                if message.state == state or message.state not in {RECEIVED, state}:
                    return
        except anyio.EndOfStream:
            return
