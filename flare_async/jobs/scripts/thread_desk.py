"""The desk of a script in a thread: what the loop and the script's thread tell each other.

The loop puts errands into a queue and sets flags; the thread posts calls to the loop. There is no
lock: a flag is written by one side only, and an errand is both offered and withdrawn with two
flags, of which at least one side sees the other's.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from flare_async.errors import ClientCallError, ScriptStopped
from flare_async.jobs.companions import handed
from flare_async.jobs.memory import trim_allocator
from flare_async.jobs.scripts.desk import Place, TaskFacts
from flare_async.jobs.seeding import limit_torch_threads
from flare_async.jobs.training import TrainOutcome, TrainTask, conclude, prepare
from flare_async.model import FLModel
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.pool import SlotPool

__all__ = ["Errand", "OnLog", "Post", "ThreadDesk"]

OnLog = Callable[[LogRecord], None]
Post = Callable[[Callable[[], None]], None]

TRIMMED: Final = 8_000_000  # bytes of a model from which on a heap is trimmed after a result
FORKED: Final = "this process was forked from the script's: only that one may talk"
ABORTED: Final = "the job was aborted or the round has ended; let this error pass and end"


@dataclass(slots=True, eq=False)
class Errand:
    """One task on its way to a script; ``done`` waits for its result on the loop."""

    task: TrainTask
    facts: TaskFacts
    done: asyncio.Future[TrainOutcome]
    began: float
    seen: bool = False  # set by the thread
    withdrawn: bool = False  # set by the loop


class ThreadDesk:
    """A ``Desk``; ``assign``, ``end`` and ``stop`` are the loop's side of it.

    ``post`` has a function called on the loop; ``on_log`` may be called in any thread. ``calls``
    counts what the script asked for, of which ``last_call`` is the name in ``flare_async.client``.
    """

    def __init__(
        self, place: Place, post: Post, on_log: OnLog | None, on_close: Callable[[], None]
    ) -> None:
        self.calls = 0
        self.last_call = ""
        self._place = place
        self._process = os.getpid()
        self._post = post
        self._on_log = on_log
        self._on_close = on_close
        self._inbox: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._errand: Errand | None = None
        self._pool = SlotPool()
        self._ended = False
        self._stopped = ""
        self._trims = False

    @property
    def place(self) -> Place:
        """Where the script runs."""
        return self._place

    @property
    def is_stopped(self) -> bool:
        """Whether the script was told to stop."""
        return bool(self._stopped)

    def assign(self, errand: Errand) -> None:
        """Give the script its next task; called on the loop."""
        self._inbox.put(errand)

    def end(self) -> None:
        """Let the script find that the job has ended; called on the loop."""
        self._ended = True
        self._inbox.put(None)

    def stop(self, reason: str = ABORTED) -> None:
        """Let the script's next call raise ``ScriptStopped``; called on the loop."""
        self._stopped = reason
        self._inbox.put(None)

    def wait(self, timeout: float | None = None) -> TaskFacts | None:
        """Return the current task, wait for one, or return None when the job has ended.

        Raises:
            TimeoutError: no task came in time.
            ScriptStopped: the job was aborted.
        """
        self._note("is_running")
        until = None if timeout is None else time.monotonic() + timeout
        self._tidy()
        while self._errand is None:
            if self._ended:
                return None
            self._accept(self._next(until))
            self._check()
        return self._errand.facts

    def take(self, *, copy: bool = True) -> FLModel:
        """Return the current task's model, a private copy unless ``copy`` is false.

        Raises:
            ScriptStopped: the job was aborted.
            TrainingFailed: the model's types do not exist in the script's framework.
        """
        self._note("receive")
        task = self._current("receive").task
        limit_torch_threads()  # never undone: the thread does nothing else
        # A copy of its own for each task: a script may keep what it received for as long as it
        # likes, and what it lets go of is freed.
        self._pool = SlotPool()
        if copy or task.work.framework != "numpy":
            return prepare(task, self._pool, {})[0]
        params: dict[str, object] = dict(task.tensors.numpy())
        meta = handed(params, task.meta)
        return FLModel(
            params=params,
            current_round=task.site.round_number,
            total_rounds=task.site.total_rounds,
            meta=meta,
        )

    def hand_in(self, model: FLModel) -> None:
        """Deliver the result of the current task.

        Raises:
            TrainingFailed: it is no usable result; the task goes on.
            ScriptStopped: the job was aborted.
        """
        self._note("send")
        errand = self._current("send")
        seconds = time.perf_counter() - errand.began
        outcome = conclude(errand.task, model, self._pool, seconds=seconds)
        self._errand, self._pool = None, SlotPool()
        self._trims = errand.task.tensors.nbytes >= TRIMMED
        self._tell(partial(_settle, errand, outcome))
        script = errand.task.work.script
        if script is not None and script.cuda_empty_cache:
            _empty_cuda_cache()

    def log(self, record: LogRecord) -> None:
        """Pass a record on.

        Raises:
            ScriptStopped: the job was aborted.
        """
        self._note("log")
        if self._on_log is not None:
            self._on_log(record)

    def close(self) -> None:
        """Take no more tasks; harmless twice."""
        self._note("shutdown", check=False)
        if not self._ended and not self._stopped and os.getpid() == self._process:
            self._ended = True
            self._post(self._on_close)

    def _tidy(self) -> None:
        """Give memory back before a wait, when the script has let go of both models.

        A thread shares its heap with few others: what is free in there is of use to nobody else,
        and with hundreds of sites dozens of models would stay.
        """
        if self._trims:
            self._trims = False
            trim_allocator()

    def _note(self, name: str, *, check: bool = True) -> None:
        self.calls += 1
        self.last_call = name
        if check:
            self._check()

    def _check(self) -> None:
        if os.getpid() != self._process:  # where a DataLoader has workers, for one
            raise ScriptStopped(f"{self._place.site}: {FORKED}")
        if self._stopped:
            self._errand = None
            raise ScriptStopped(f"{self._place.site}: {self._stopped}")

    def _current(self, name: str) -> Errand:
        if self._errand is None:
            raise ClientCallError(f"{name}: there is no task; call it while is_running() is true")
        return self._errand

    def _next(self, until: float | None) -> Errand | None:
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            return self._inbox.get(timeout=left)
        except queue.Empty:
            raise TimeoutError(f"{self._place.site}: no task came in time") from None

    def _accept(self, errand: Errand | None) -> None:
        if errand is None:
            return
        errand.seen = True
        if not errand.withdrawn:
            self._errand = errand

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._post(call)
        except RuntimeError:  # the loop is closed
            self._stopped = self._stopped or "the run has ended"
            self._check()


def _settle(errand: Errand, outcome: TrainOutcome) -> None:
    if not errand.done.done():
        errand.done.set_result(outcome)


def _empty_cuda_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
