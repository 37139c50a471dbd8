"""One training of one site: the same steps in every kind of worker.

``prepare`` makes the private copy and the ``Site``; ``call`` (and ``finish`` for coroutines) runs
user code and turns whatever it raises into ``TrainingFailed``; ``conclude`` checks and detaches
what came back. Spawners differ only in where they take these steps.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from flare_async.errors import FlareError, TrainingFailed
from flare_async.hot_value import hot_value
from flare_async.jobs.companions import answered, companion_names, completed, handed
from flare_async.jobs.places import place_of, place_of_error
from flare_async.jobs.result import (
    checked_evaluation,
    checked_meta,
    checked_metrics,
    checked_model,
    checked_tensors,
)
from flare_async.jobs.site import Scalar, Site, SiteInfo
from flare_async.jobs.slots import filled
from flare_async.jobs.work import EvaluateFunction, TrainFunction, Work
from flare_async.model import FLModel, ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.roles.text import described, travelling
from flare_async.transfer.layers import flattened
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "TaskKind",
    "TrainOutcome",
    "TrainTask",
    "call",
    "conclude",
    "failure_of",
    "finish",
    "prepare",
]

TaskKind: TypeAlias = Literal["train", "validate", "submit_model"]
MAX_TRACEBACK_LINES: Final = 50
MAX_LINE: Final = 500
MAX_PROBLEM: Final = 1000


@hot_value(frozen=True, slots=True)
class TrainTask:
    """What one site is to do in one round: the work, the model by reference, the facts.

    ``log`` takes what the site tracks, from any thread.
    """

    work: Work
    tensors: TensorSet
    site: SiteInfo
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    kind: TaskKind = "train"
    log: Callable[[LogRecord], None] | None = None

    @property
    def function(self) -> TrainFunction | EvaluateFunction:
        """The user's function that this task calls.

        Raises:
            TrainingFailed: the site has no function for what it was asked to do.
        """
        if self.kind == "train":
            if self.work.train is None:
                raise TrainingFailed(self.site.name, "was asked to train without train=")
            return self.work.train
        if self.kind == "submit_model":
            raise TrainingFailed(self.site.name, "only a script can be asked for its own model")
        if self.work.evaluate is None:
            raise TrainingFailed(self.site.name, "was asked to evaluate without evaluate=")
        return self.work.evaluate


@hot_value(frozen=True, slots=True)
class TrainOutcome:
    """What came back: an update nobody else can write to, and ``seconds`` spent in user code.

    An evaluation has metrics and no tensors.
    """

    tensors: TensorSet | None
    params_type: ParamsType
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    seconds: float


def prepare(task: TrainTask, pool: SlotPool, state: dict[str, object]) -> tuple[FLModel, Site]:
    """Return what the train function is called with; the params are copied into ``pool``.

    Raises:
        TrainingFailed: the framework is not installed, or has no such element type.
    """
    info = task.site
    try:
        params = pool.take(task.tensors, task.work.framework)
    except FlareError as exc:
        raise TrainingFailed(info.name, str(exc)) from exc
    meta = handed(params, task.meta, layered=task.work.framework == "tensorflow")
    model = FLModel(
        params_type=ParamsType.FULL,
        params=params,
        current_round=info.round_number,
        total_rounds=info.total_rounds,
        meta=meta,
    )
    return model, Site(info, state, task.log)


def call(task: TrainTask, model: FLModel, site: Site) -> object:
    """Call the train function once; returns what it returns, which may be awaitable.

    Raises:
        TrainingFailed: it raised anything but KeyboardInterrupt, which passes.
    """
    try:
        return task.function(model, site)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the host
        failed = failure_of(site.name, error)
    # Raised outside of the handler: a chained error would keep user code's frames, and through
    # them the slot's memory, alive for as long as the failure is remembered.
    raise failed


async def finish(site: str, result: Awaitable[object]) -> object:
    """Await what an async train function returned.

    Waits for ever: training may take as long as it needs, the round's deadline cancels it.

    Raises:
        TrainingFailed: it raised anything but KeyboardInterrupt or its own cancellation.
    """
    try:
        return await result
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - as in call
        failed = failure_of(site, error)
    raise failed


def failure_of(site: str, error: BaseException) -> TrainingFailed:
    """Return the typed error for what user code raised; ``details`` is the traceback's text."""
    # The first frame is ours, unless the call itself failed and there is no other.
    trace = error.__traceback__ and (error.__traceback__.tb_next or error.__traceback__)
    lines = "".join(traceback.format_exception(error.with_traceback(trace))).splitlines()
    shown = [line[:MAX_LINE] for line in lines]
    if len(shown) > MAX_TRACEBACK_LINES:
        cut = len(shown) - MAX_TRACEBACK_LINES + 1
        shown = [f"... {cut} lines", *shown[cut:]]
    place = place_of_error(error)
    problem = described(error)[:MAX_PROBLEM] + (f" (at {travelling(place)})" if place else "")
    return TrainingFailed(site, problem, travelling("\n".join(shown)))


def conclude(
    task: TrainTask, result: object, pool: SlotPool, *, seconds: float = 0.0, detach: bool = True
) -> TrainOutcome:
    """Check what user code returned and cut it loose from the slot and from live objects.

    ``detach=False`` is for a caller that copies the tensors before anything else happens.

    Raises:
        TrainingFailed: the result is no usable model; the message says what to return.
    """
    try:
        return _concluded(task, result, pool, seconds=seconds, detach=detach)
    except TrainingFailed as exc:
        place = place_of(task.work.train if task.kind == "train" else task.work.evaluate)
        if place is None:
            raise
        failed = TrainingFailed(exc.site, f"{exc.problem} (at {place})", exc.details)
    raise failed


def _concluded(
    task: TrainTask, result: object, pool: SlotPool, *, seconds: float, detach: bool
) -> TrainOutcome:
    site = task.site.name
    if task.kind == "validate":
        metrics = checked_evaluation(site, result)
        return TrainOutcome(None, ParamsType.FULL, metrics, {}, seconds)
    model = checked_model(site, result)
    if task.work.framework == "tensorflow" and model.params is not None:
        model = replace(model, params=flattened(model.params))
    _refuse_layers(site, model)
    kind = model.params_type or ParamsType.FULL
    wanted = sent = task.tensors
    slotted = bool(companion_names(sent))
    if slotted:
        model = filled(site, model, sent)
    if slotted or task.meta:
        model, wanted = answered(site, model, sent, task.meta)
    tensors = checked_tensors(site, model, wanted, pool, detach=detach)
    return TrainOutcome(
        tensors=completed(tensors, sent, kind) if slotted else tensors,
        params_type=kind,
        metrics=checked_metrics(site, model.metrics),
        meta=checked_meta(site, model.meta),
        seconds=seconds,
    )


def _refuse_layers(site: str, model: FLModel) -> None:
    """Refuse lists of arrays, which Keras has for a layer. Raises TrainingFailed."""
    for name, value in (model.params or {}).items():
        if not isinstance(value, (list, tuple)):
            continue
        if all(isinstance(array, np.ndarray) for array in value):
            problem = f"params[{name!r}] is a list of {len(value)} arrays: give each a name, as "
            hint = 'weights_of(net, model.params) does for Keras, or the recipe framework="keras"'
            raise TrainingFailed(site, problem + hint)
