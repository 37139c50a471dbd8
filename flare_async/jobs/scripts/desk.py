"""What stands between a training script and its site's client: tasks in, results out.

A script is ordinary blocking code. The functions that it calls (``flare_async.client``) know
nothing of threads, processes or event loops: they talk to a *desk*. A script in a thread finds a
desk that belongs to the loop of the same process; a script in a process of its own finds one that
speaks over a socket. Both follow the same rules:

* a desk has one task at a time; ``wait`` returns the facts of the current one until a result for it
  was handed in, then it blocks until the next one is there or the job has ended;
* on ranks other than 0 ``wait`` returns each task once, and nothing is taken or handed in;
* ``take`` makes the private, writable copy of the model, and may be called once a task;
* ``hand_in`` checks what the script made, cuts it loose from memory that the script can write to,
  and returns when the client has taken it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flare_async.jobs.site import Plain, Scalar
from flare_async.model import FLModel
from flare_async.roles.log_record import LogRecord

__all__ = ["Desk", "Place", "TaskFacts"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a script runs: its site, its job, its rank among the site's processes, its options."""

    site: str
    job: str
    rank: int = 0
    config: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One task; ``number`` counts the tasks of this desk from 1, rounds count from 0.

    ``name`` is "train", "validate" or "submit_model".
    """

    number: int
    name: str
    round_number: int
    total_rounds: int
    meta: Mapping[str, Scalar] = field(default_factory=dict)


class Desk(Protocol):
    """The blocking side of a script's connection to its client; one thread uses it at a time."""

    @property
    def place(self) -> Place:
        """Where the script runs."""

    def wait(self, timeout: float | None = None) -> TaskFacts | None:
        """Return the current task, or None when the job has ended.

        Blocks until there is one: a site may be left out of many rounds, so only ``timeout``
        (seconds; None is none) bounds it.

        Raises:
            TimeoutError: no task came in time.
            ScriptStopped: the job was aborted, or the client is gone.
        """

    def take(self, *, copy: bool = True) -> FLModel:
        """Return the current task's model; its params are the script's own.

        With ``copy=False`` they may be read-only views (NumPy only) that others share.

        Raises:
            ScriptStopped: the job was aborted, or the client is gone.
            TrainingFailed: the model's types do not exist in the script's framework.
        """

    def hand_in(self, model: FLModel) -> None:
        """Deliver the result of the current task; blocks until the client has taken it.

        Raises:
            TrainingFailed: it is no usable result; the task goes on and another may be handed in.
            ScriptStopped: the job was aborted, or the client is gone.
        """

    def log(self, record: LogRecord) -> None:
        """Pass a record on; never blocks for long, and what finds no room is counted and dropped.

        Raises:
            ScriptStopped: the client is gone.
        """

    def close(self) -> None:
        """Tell the client that the script needs no more tasks; harmless twice."""
