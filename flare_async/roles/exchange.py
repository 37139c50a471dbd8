"""A task offered to one session of its site: from the open to the whole, admitted update."""

from __future__ import annotations

import dataclasses
from typing import Final

import anyio

from flare_async.errors import (
    ChannelReset,
    FlareError,
    LinkError,
    OfferGone,
    OfferNotFound,
    RemoteProtocolError,
    SourceLost,
    TrainingFailed,
    UpdateRefused,
)
from flare_async.model import ParamsType
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.session import Session
from flare_async.roles.carriage import PULLED, carriage_of
from flare_async.roles.claim import Claim, Holder
from flare_async.roles.counted_sink import counted
from flare_async.roles.like_model import LikeModel
from flare_async.roles.messages import (
    FAILURES,
    OFFER_SCHEMA,
    TASK_TOPIC,
    TaskFailed,
    TaskOffer,
    TaskResult,
)
from flare_async.roles.partial import Partial
from flare_async.roles.partial_messages import Take
from flare_async.roles.partials import Partials
from flare_async.roles.plain_weight import plain_weight
from flare_async.roles.setting import RoundSetting, Update
from flare_async.roles.steps import in_turns
from flare_async.roles.stream import TaskStream
from flare_async.transfer.carried import Carried, carried_views
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.reducer import Reducer, keeps
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Exchange"]

KINDS: Final[dict[str, ParamsType]] = {kind.value: kind for kind in ParamsType}


class Exchange:
    """Offers the task, waits for the result, pulls it and has it admitted.

    Behind a relay that adds, the relay pulls it, and it is admitted with the sum that it is in.
    ``stream`` is the task's channel, as soon as there is one; ending it is the lease's part.
    """

    def __init__(self, setting: RoundSetting, site: str, attempt: int) -> None:
        self._setting = setting
        self._site = site
        self._attempt = attempt
        self._carriage = PULLED
        self._behind: Carried | None = None  # the update, if it came behind its result
        self.stream: TaskStream | None = None

    async def run(
        self, session: Session, remaining: float | None, partials: Partials, holder: Holder
    ) -> Update:
        """Return the site's update; with a reducer it has been admitted there.

        Waits for the site's work as long as the session lives, and for the sum that a relay makes
        of it; cancelling leaves the channel open. ``holder`` is told how a sum goes on.

        Raises:
            TrainingFailed: the site reports that its work failed.
            UpdateRefused: the update is not what was asked for, or not admissible.
            SourceLost: the result was accepted, and went before all of it was here.
            RemoteProtocolError: the site said something else than a result, or more.
            FlareError: the channel, the link or a pull failed.
        """
        stream = self.stream = self._open(session, remaining)
        result = await self._result(stream)
        update = self._update(result, self._weight(result))
        if stream.unread:
            raise RemoteProtocolError("unexpected", f"{self._site}: a message after its result")
        take = self._take(result, update)
        while take is not None and (partial := partials.of(self._site, session)) is not None:
            if await self._bring(partial, Claim(take, update, holder)):
                return update
        directory = self._setting.server.directory
        if directory.is_routed(self._site):
            async with directory.gate(self._site):
                tensors = await self._pull(session, result, update.weight)
        else:
            tensors = await self._pull(session, result, update.weight)
        if stream.unread:
            raise RemoteProtocolError("unexpected", f"{self._site}: a message after its result")
        if self._setting.reducer is not None and result.update is not None:
            await self._admit(self._setting.reducer)
            if keeps(self._setting.reducer):
                tensors = self._setting.reducer.taken(self._site)
        return update if tensors is None else dataclasses.replace(update, tensors=tensors)

    def _update(self, result: TaskResult, weight: float) -> Update:
        return Update(
            site=self._site,
            params_type=result.params_type,
            metrics=result.metrics,
            meta=result.meta,
            weight=weight,
            seconds=result.seconds,
            received=result.received,
            nbytes=0 if result.update is None else result.update.nbytes,
            ref=result.update,
        )

    def _take(self, result: TaskResult, update: Update) -> Take | None:
        """Return what a relay is asked to take; None where there is nothing to add."""
        ref = result.update
        if ref is None or not self._setting.groups:
            return None
        kind = self._kind(result)
        return Take(self._site, self._attempt, update.weight, kind, ref)

    def _open(self, session: Session, remaining: float | None) -> TaskStream:
        self._setting.server.leftovers.sweep(session)
        carriage = self._carriage = carriage_of(self._setting, session)
        options = self._setting.options.get(carriage.takes)
        if options is None:
            options = OpenOptions(urgent=True, window=FIRST_WINDOW + carriage.takes)
            self._setting.options[carriage.takes] = options
        offer = self._setting.offer
        by_reference = session.link.by_reference
        model = () if carriage.model is None else carried_views(offer, by_reference=by_reference)
        header = self._header(remaining)
        channel = session.open(TASK_TOPIC, header, options, behind=model)
        if model:
            offer.served[session.peer] += offer.ref.nbytes
        return TaskStream(channel)

    def _header(self, remaining: float | None) -> bytes:
        """Return the task as all sites get it; with a deadline each is told what is left of it."""
        wording = self._attempt, self._carriage.model, self._carriage.takes
        header = self._setting.headers.get(wording)
        if header is None or remaining is not None:
            header = OFFER_SCHEMA.encode(self._offer(remaining))
            self._setting.headers[wording] = header
        return header

    def _offer(self, remaining: float | None) -> TaskOffer:
        task = self._setting.task
        return TaskOffer(
            job=task.job,
            task=task.name,
            round_number=task.number,
            total_rounds=task.total,
            attempt=self._attempt,
            epoch=0,
            model=self._setting.offer.ref,
            remaining=remaining,
            keep_until=task.keep_until,
            meta=task.meta,
            carried=self._carriage.model,
            takes=self._carriage.takes,
        )

    async def _result(self, stream: TaskStream) -> TaskResult:
        try:
            message = await stream.receive()
        except anyio.EndOfStream:
            raise RemoteProtocolError("no_result", f"{self._site} ended its task early") from None
        match message:
            case TaskResult():
                if message.logs:
                    self._note_logs()
                await self._read_behind(stream, message)
                return message
            case TaskFailed(problem, details):
                if message.logs:
                    self._note_logs()
                kind = FAILURES.get(message.code, TrainingFailed)
                raise kind(self._site, problem, details)
            case _:
                raise RemoteProtocolError("unexpected", type(message).__name__)

    async def _read_behind(self, stream: TaskStream, result: TaskResult) -> None:
        # At once: whatever is said about the result later, nothing of it is left to be read.
        if self._carriage.model is not None:
            stream.channel.answered()  # a version lives no longer than somebody works on it
        ref = result.update
        if result.carried is None or ref is None:
            return
        if ref.nbytes > self._carriage.takes:
            most = self._carriage.takes
            raise RemoteProtocolError("unexpected", f"{ref.nbytes} bytes follow, {most} may")
        try:
            self._behind = Carried(await stream.carried(ref.nbytes), result.carried)
        except FlareError as exc:
            if (lost := self._loss(ref, 0, exc)) is None:
                raise
            raise lost from exc

    def _note_logs(self) -> None:
        self._setting.server.note_logs(self._setting.task.job, self._site)

    def _weight(self, result: TaskResult) -> float:
        # Checked before anything is pulled; a reducer checks it again for itself.
        weigh = self._setting.weigh
        weight = 1.0
        if weigh is not None:
            lag = self._setting.server.context.lag
            began = lag.now()
            try:
                weight = plain_weight(weigh(self._site, result.meta))
            finally:
                lag.ended(getattr(weigh, "__qualname__", type(weigh).__qualname__), began)
        self._setting.admission.check_weight(self._site, weight)
        return weight

    async def _pull(self, session: Session, result: TaskResult, weight: float) -> TensorSet | None:
        ref, reducer = result.update, self._setting.reducer
        if ref is None:
            return None
        if not self._setting.task.wants_update:
            raise UpdateRefused(self._site, f"{ref.nbytes} bytes were offered and not asked for")
        if reducer is not None:
            await self._fetch(session, ref, self._stage(reducer, result, weight))
            return None
        sink = self._sink(ref)
        await self._fetch(session, ref, sink)
        return sink.tensors

    async def _fetch(self, session: Session, ref: TensorRef, sink: TensorSink) -> None:
        downloader = self._setting.server.context.downloader
        behind, self._behind = self._behind, None  # from here on the sink has it
        here = behind is not None and session.link.by_reference  # and nothing of it is pulled
        into = None if here else counted(sink)
        try:
            if behind is None:
                await downloader.fetch(session, ref, into or sink)
            else:
                await downloader.take(session, ref, into or sink, behind)
        except FlareError as exc:
            if (lost := self._loss(ref, 0 if into is None else into.got, exc)) is None:
                raise
            raise lost from exc

    def _loss(self, ref: TensorRef, got: int, error: FlareError) -> SourceLost | None:
        """Return what an error says of a result on its way, if that has lost its source."""
        if isinstance(error, ChannelReset):
            lost = error.reset_code in {ResetCode.INTERNAL, ResetCode.UNREACHABLE}
        else:
            lost = isinstance(error, OfferGone | OfferNotFound | LinkError)
        return self._lost(ref, got, error) if lost else None

    async def _bring(self, partial: Partial, claim: Claim) -> bool:
        try:
            return await partial.bring(claim)
        except ChannelReset as exc:
            if exc.reset_code != ResetCode.UNREACHABLE:
                raise
            raise self._lost(claim.take.update, 0, exc) from exc

    def _lost(self, ref: TensorRef, got: int, error: FlareError) -> SourceLost:
        task = self._setting.task
        label = f"{task.name!r} of round {task.number}, attempt {self._attempt}"
        return SourceLost(self._site, label, got, ref.nbytes, str(error))

    def _sink(self, ref: TensorRef) -> LikeModel:
        most = sum(spec.nbytes for spec in self._setting.offer.source.specs)
        if ref.nbytes > most:
            raise UpdateRefused(self._site, f"offers {ref.nbytes} bytes, the model has {most}")
        memory_bytes = self._setting.server.context.limits.memory_bytes
        return LikeModel(self._site, self._setting.admission, memory_bytes)

    def _stage(self, reducer: Reducer, result: TaskResult, weight: float) -> TensorSink:
        return reducer.stage(self._site, weight, self._kind(result))

    def _kind(self, result: TaskResult) -> ParamsType:
        kind = KINDS.get(result.params_type)
        if kind is None:
            raise UpdateRefused(self._site, f"params_type {result.params_type!r:.40}")
        return kind

    async def _admit(self, reducer: Reducer) -> None:
        if self._setting.stepped is None:
            reducer.commit(self._site)
        else:
            await in_turns(self._setting.stepped.admitting(self._site))
