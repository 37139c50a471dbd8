"""A worker's answer as its parent takes it, wherever the worker is."""

from __future__ import annotations

from flare_async.errors import RemoteProtocolError, TrainingFailed
from flare_async.jobs.memory import is_due
from flare_async.jobs.spawners.messages import Assignment, Done, Failed, Message
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import CodeReference
from flare_async.transfer.tensors import TensorSet

__all__ = ["assignment_of", "done_of", "outcome_of"]


def assignment_of(task: TrainTask, code: CodeReference, number: int) -> Assignment:
    """Return what a worker is told; ``number`` is the model's, wherever that lies."""
    return Assignment(
        code=code,
        framework=task.work.framework,
        site=task.site,
        meta=task.meta,
        model=number,
        specs=task.tensors.specs,
        aliases=task.tensors.aliases,
        kind=task.kind,
        trims=is_due(task.site.round_number, task.work.memory_gc_rounds, task.tensors.nbytes),
    )


def done_of(task: TrainTask, answer: Message) -> Done:
    """Pass on what the site has tracked, and return the answer of a task that was done.

    Raises:
        TrainingFailed: it was not.
        RemoteProtocolError: it is no answer.
    """
    if not isinstance(answer, Done | Failed):
        raise RemoteProtocolError("worker_message", f"unexpected {type(answer).__name__}")
    if task.log is not None:
        for record in answer.records:
            task.log(record)
    if isinstance(answer, Failed):
        raise TrainingFailed(task.site.name, answer.problem, answer.details)
    return answer


def outcome_of(done: Done, tensors: TensorSet | None) -> TrainOutcome:
    """Return the outcome whose tensors have been read."""
    return TrainOutcome(
        tensors=tensors,
        params_type=done.params_type,
        metrics=done.metrics,
        meta=done.meta,
        seconds=done.seconds,
    )
