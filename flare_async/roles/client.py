"""The client: connects to its server and works on the tasks that it is given."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import NoReturn

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError, SessionGone, TrainingFailed
from flare_async.net.backoff import Backoff
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.lobby import OTHERS
from flare_async.net.session import Session
from flare_async.roles.carrying import bring_model, digest_of, send_result
from flare_async.roles.context import Context
from flare_async.roles.entrance import opened
from flare_async.roles.log_feed import LogFeed
from flare_async.roles.log_messages import LOG_TOPIC
from flare_async.roles.log_record import LogRecord
from flare_async.roles.messages import (
    RECEIVED,
    TASK_TOPIC,
    Receipt,
    TaskFailed,
    TaskOffer,
    TaskResult,
)
from flare_async.roles.peers import Peers
from flare_async.roles.readiness import Prepare, get_ready
from flare_async.roles.site_work import (
    ChoosesSink,
    Desk,
    ModelSink,
    SiteResult,
    SiteTask,
    Worker,
)
from flare_async.roles.start_messages import START_TOPIC
from flare_async.roles.stream import TaskStream
from flare_async.roles.text import described, shortened, where
from flare_async.transfer.shelf import Offer
from flare_async.transfer.sink import MemorySink
from flare_async.wire.frames import ResetCode

__all__ = ["ChoosesSink", "Client", "Desk", "ModelSink", "SiteResult", "SiteTask", "Worker"]

DETAILS_BYTES = 16_384
log = structlog.get_logger()


class Client:
    """One site. ``gate`` bounds how many tasks of a process hold a model at once.

    ``prepare(notice)`` makes the site ready for a job before its first task. ``desk`` gets tasks
    that concern its peers, outside of the gate: it waits for others, who may need a place in there.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        worker: Worker,
        gate: AbstractAsyncContextManager[object] | None = None,
        *,
        prepare: Prepare | None = None,
        desk: Desk | None = None,
    ) -> None:
        self.context = context
        self.name = name
        self.shelf = context.shelf(name)
        self._worker = worker
        self._gate = gate or nullcontext()
        self._prepare = prepare
        self._desk = desk
        self.peers = Peers(context, name, self.shelf, self._start)
        if desk is not None:
            self.peers.on_over = desk.over
        self._endpoint = context.endpoint(name, "client")
        self._logs = LogFeed(context.clock, context.random, context.limits)
        self._working = False  # on a task in the session's own task
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
        try:
            await self._stay(address)
        finally:
            self.peers.close()

    async def _stay(self, address: str) -> None:
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
        self.peers.attach(session)
        self._working = False
        session.serve(TASK_TOPIC, self._take)
        session.serve(START_TOPIC, self._get_ready)
        session.serve(LOG_TOPIC, self._tell_logs)
        session.serve(OTHERS, self._refuse)
        with suppress(StopAsyncIteration):  # the session has ended
            while True:
                await self._attend(session)

    async def _attend(self, session: Session) -> None:
        """Work on tasks in one scope until one of them is taken back, which cancels it."""
        channel = await anext(session)
        with anyio.CancelScope() as scope:  # not before: many a site is never asked
            while True:
                try:
                    await self._task(channel, scope)
                finally:
                    self._working = False
                del channel  # who is idle holds nothing of its last task
                if scope.cancel_called:
                    return
                channel = await anext(session)

    def _take(self, channel: Channel) -> None:
        """Work on a task in the session's own task if that is free; one of its own costs more."""
        if self._working:
            self._start(channel)
        else:
            self._working = True
            channel.session.keep(channel)

    def _get_ready(self, channel: Channel) -> None:
        ready = partial(get_ready, channel, self.context.limits, self._prepare)
        start_soon(self.context.tasks, ready, name=f"start at {self.name}")

    def _tell_logs(self, channel: Channel) -> None:
        start_soon(self.context.tasks, self._logs.serve, channel, name=f"records of {self.name}")

    def _refuse(self, channel: Channel) -> None:
        channel.reset(ResetCode.REFUSED, "a site takes tasks only")

    def _start(self, channel: Channel) -> None:
        start_soon(self.context.tasks, self._task_apart, channel, name=f"task at {self.name}")

    async def _task_apart(self, channel: Channel) -> None:
        with anyio.CancelScope() as scope:
            await self._task(channel, scope)

    async def _task(self, channel: Channel, scope: anyio.CancelScope) -> None:
        stream = TaskStream(channel)
        if not channel.is_open:  # revoked in the same read as it came
            return
        channel.on_failed = scope.cancel  # a reset is the revocation of the lease
        try:
            failed = await self._attempt(stream)
        except BaseException:
            stream.reset(ResetCode.CANCELLED, "the site stops")
            raise
        finally:
            channel.on_failed = None
        if failed is not None:
            if stream.behind:  # a model that nobody reads would keep the channel open
                most = min(stream.behind, self.context.limits.carried_bytes)
                with suppress(FlareError):
                    await stream.carried(most)
            stream.finish(failed)

    async def _attempt(self, stream: TaskStream) -> TaskFailed | None:
        """Do the task; return what to tell the server when it failed and can be told."""
        try:
            offer = self.context.offers.read(stream.channel.header, self.context.limits)
            stream.behind = 0 if offer.carried is None else offer.model.nbytes
            if not offer.job or not offer.task:
                self._lack("task" if offer.job else "job")
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

    def _lack(self, key: str) -> NoReturn:
        raise TrainingFailed(self.name, f"the task's metadata lack {key!r}")

    def _failed(self, problem: str, details: str = "", code: str = "") -> TaskFailed:
        most = min(DETAILS_BYTES, self.context.limits.control_bytes // 4)
        told = shortened(problem, most), shortened(details, most, tail=True)
        return TaskFailed(*told, logs=self._logs.waiting, code=code)

    async def _work(self, stream: TaskStream, offer: TaskOffer) -> None:
        worker, gate = self._at_work(stream, offer)
        async with gate:
            held, message = await self._train(stream, offer, worker)
        try:
            send_result(stream, message, held)
            await self._wait_for(stream, offer.keep_until)
            if held is not None:
                self.shelf.withdraw(held)
                held = None  # its tensors too: the round may go on for long
            await self._wait_for(stream, "")
        finally:
            if held is not None:
                self.shelf.withdraw(held)

    def _at_work(
        self, stream: TaskStream, offer: TaskOffer
    ) -> tuple[Worker, AbstractAsyncContextManager[object]]:
        """Return who works on a task; the desk works for the server only, never for a peer."""
        if self._desk is not None and not stream.channel.origin:
            worker = self._desk.worker(offer.task, self.peers.server(offer.job))
            if worker is not None:
                return worker, nullcontext()
        return self._worker, self._gate

    async def _train(
        self, stream: TaskStream, offer: TaskOffer, worker: Worker
    ) -> tuple[Offer | None, TaskResult]:
        # The tensors live in this frame only: what is waited for later is held by the offer alone.
        session = self.peers.reach(stream.channel, offer.job)
        sink = self._sink(session, worker)
        await bring_model(self.context.downloader, stream, session, offer, sink)
        self._round = offer.job, offer.round_number
        work = worker.run(
            SiteTask(
                offer.job,
                offer.task,
                offer.round_number,
                offer.total_rounds,
                sink.tensors,
                offer.meta,
            )
        )
        result = await self.context.lag.steps(work, f"{type(worker).__qualname__}.run")
        held = None
        if result.tensors is not None:
            held = self.shelf.put(result.tensors, readers=[stream.channel.peer])
        ref = None if held is None else held.ref
        message = TaskResult(
            ref,
            str.__str__(result.params_type),
            result.metrics,
            result.meta,
            result.seconds,
            result.received,
            self._logs.waiting,
            digest_of(held, offer, session),
        )
        return held, message

    def _sink(self, session: Session, worker: Worker) -> ModelSink:
        most = self.context.limits.memory_bytes
        # What comes by reference is nobody's to write: it is adopted where it is.
        if not session.link.by_reference and isinstance(worker, ChoosesSink):
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
