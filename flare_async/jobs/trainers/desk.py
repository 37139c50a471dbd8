"""The desk of a script in a process of its own: blocking calls over the client's unix socket."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import numpy as np

from flare_async.errors import (
    ConfigError,
    FlareError,
    RemoteProtocolError,
    ScriptStopped,
    TrainingFailed,
)
from flare_async.jobs.companions import RESERVED, handed
from flare_async.jobs.memory import return_memory
from flare_async.jobs.scripts.desk import Desk, Place, TaskFacts
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners.shared import layout
from flare_async.jobs.trainers.coding import LOG_BYTES, encode
from flare_async.jobs.trainers.messages import (
    Closing,
    Ended,
    Hello,
    Logged,
    Message,
    Offered,
    Refused,
    Result,
    Seen,
    Taken,
    Welcome,
)
from flare_async.jobs.trainers.result import result_file
from flare_async.jobs.trainers.shared import Handed, SharedSource, view_of
from flare_async.jobs.trainers.wire import Wire
from flare_async.jobs.training import TaskKind, TrainOutcome, TrainTask, conclude
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.model import FLModel, ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.capture import as_array, as_tensor
from flare_async.transfer.layers import grouped
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.spec import under_all_names
from flare_async.transfer.tensors import TensorSet

__all__ = ["ADDRESS", "TOKEN", "SocketDesk", "open_desk"]

ADDRESS: Final = "FLARE_ASYNC_TRAINER"
TOKEN: Final = "FLARE_ASYNC_TRAINER_TOKEN"


def open_desk(environ: Mapping[str, str], rank: int) -> Desk:
    """Connect a script's process to its client and return its desk.

    On rank 0 it gives tasks; on others each ``wait`` returns the next task's facts. Waits for the
    client's answer, at most ``Limits().start_timeout``.

    Raises:
        ScriptStopped: the client is gone, or does not want this process.
    """
    wire = Wire(environ.get(ADDRESS, ""))
    try:
        wire.send(Hello(environ.get(TOKEN, ""), rank))
        welcome = wire.receive(Limits().start_timeout)
    except TimeoutError as exc:
        wire.close()
        raise ScriptStopped(f"the client at {environ.get(ADDRESS)} does not answer") from exc
    except BaseException:
        wire.close()
        raise
    if not isinstance(welcome, Welcome):
        wire.close()
        problem = "the client's answer makes no sense"
        raise ScriptStopped(welcome.problem if isinstance(welcome, Refused) else problem)
    return SocketDesk(wire, welcome, rank)


class SocketDesk:
    """A script's connection to its client; it holds no model but the one that the script took."""

    def __init__(self, wire: Wire, welcome: Welcome, rank: int) -> None:
        self._wire = wire
        self._welcome = welcome
        self._place = Place(welcome.site, welcome.job, rank, welcome.config)
        self._task: Offered | None = None  # until its result was taken
        self._file: Handed | None = None
        self._began = 0.0
        self._over = False
        self._dropped = 0
        self._trims = False

    @property
    def place(self) -> Place:
        """Where the script runs."""
        return self._place

    def wait(self, timeout: float | None = None) -> TaskFacts | None:
        """Return the current task, or None when the job has ended.

        Waits at most ``timeout`` seconds, for ever without. On ranks other than 0 each call
        returns another task.

        Raises:
            TimeoutError: no task came in time.
            ScriptStopped: the job was aborted, or the client is gone.
        """
        if self._task is not None and self._place.rank == 0:
            return self._task.facts
        if self._over:
            return None
        self._tidy()
        message: Message = Taken(0)
        try:
            # An answer to a result whose send() was interrupted: it is of interest no more.
            while isinstance(message, Taken | Refused):
                message = self._wire.receive(timeout)
        except TimeoutError:
            raise TimeoutError(f"no task came within {timeout} s") from None
        if isinstance(message, Offered):
            self._begin(message)
            return message.facts
        if not isinstance(message, Ended):
            raise RemoteProtocolError("unexpected", type(message).__name__)
        self._over = True
        return None

    def take(self, *, copy: bool = True) -> FLModel:
        """Return the current task's model; its params are the pages of the received copy.

        With DIFF transfer a page becomes the script's own when it is written to. ``copy`` changes
        nothing: nobody else has these pages.

        Raises:
            ScriptStopped: there is no task, or this is not rank 0.
            TrainingFailed: the model's types do not exist in the script's framework.
        """
        del copy
        task, file = self._task, self._file
        if task is None or file is None:
            raise ScriptStopped("there is no model: no task, or this is not rank 0")
        self._began = time.monotonic()
        try:
            params = self._params(task, file)
        except (FlareError, OSError, ValueError) as exc:
            raise TrainingFailed(self._place.site, str(exc)) from exc
        layered = self._welcome.framework == "tensorflow"
        meta = handed(params, task.facts.meta, layered=layered)
        return FLModel(
            params_type=ParamsType.FULL,
            params=params,
            current_round=task.facts.round_number,
            total_rounds=task.facts.total_rounds,
            meta=meta,
        )

    def hand_in(self, model: FLModel) -> None:
        """Deliver the result of the current task; returns when the client has it.

        Waits for the client to take it, which is no more than a look at a file's seals.

        Raises:
            TrainingFailed: it is no usable result; the task goes on and another may be handed in.
            ScriptStopped: the job was aborted, or the client is gone.
        """
        task = self._task
        if task is None or self._place.rank != 0:
            raise ScriptStopped("there is no task to hand a result in for")
        outcome = self._concluded(task, model)
        tensors, kind, file = outcome.tensors, outcome.params_type, None
        site = self._place.site
        if tensors is not None:
            base = self._base(task, kind)
            file = result_file(site, tensors, base)
            kind = kind if base is None else ParamsType.DIFF
        tied = {} if tensors is None else tensors.aliases
        number = task.facts.number
        said = (dict(outcome.metrics), dict(outcome.meta), outcome.seconds, tied)
        try:
            self._wire.send(Result(number, kind, *said), file)
        except ConfigError as exc:
            raise TrainingFailed(site, str(exc)) from exc
        self._await_taken(number)
        self._trims = task.trims
        self._task = self._file = None

    def log(self, record: LogRecord) -> None:
        """Pass a record on if there is room for it now; else it is counted and dropped.

        Raises:
            ScriptStopped: the client is gone.
        """
        message = Logged(record, self._dropped)
        try:
            sent = len(encode(message)) <= LOG_BYTES and self._wire.send_now(message)
        except ConfigError:
            sent = False
        self._dropped = 0 if sent else self._dropped + 1

    def close(self) -> None:
        """Tell the client that the script needs no more tasks; harmless twice."""
        if not self._over:
            self._over = True
            with suppress(ScriptStopped):
                self._wire.send_now(Closing())
        self._task = self._file = None
        self._wire.close()

    def _begin(self, task: Offered) -> None:
        self._task = task
        if self._place.rank == 0:
            self._file = self._wire.next_file()
            self._file.check(layout(task.specs, task.aliases)[1])
            self._wire.send(Seen(task.facts.number))
        self._began = time.monotonic()

    def _params(self, task: Offered, file: Handed) -> dict[str, object]:
        offsets, size = layout(task.specs, task.aliases)
        whole = view_of(file, size, private=self._welcome.transfer is ParamsType.DIFF)
        convert = as_tensor if self._welcome.framework == "torch" else as_array
        made: dict[str, object] = {}
        for spec in task.specs:
            if spec.name not in task.aliases:
                start = offsets[spec.name]
                flat = np.frombuffer(whole[start : start + spec.nbytes], np.uint8)
                beside = spec.name.startswith(RESERVED)  # its pages stay as they came
                made[spec.name] = convert(spec, flat.copy() if beside else flat)
        params = under_all_names(task.specs, task.aliases, made)
        return grouped(params) if self._welcome.framework == "tensorflow" else params

    def _concluded(self, task: Offered, model: FLModel) -> TrainOutcome:
        kinds: dict[str, TaskKind] = {"validate": "validate", "submit_model": "submit_model"}
        # The model's bytes are not looked at: what is checked are names, types and shapes.
        expected = TensorSet(task.specs, self._beside(task), dict(task.aliases))
        asked = TrainTask(
            Work(_no_function, self._welcome.framework),
            expected,
            SiteInfo(name=self._place.site),
            task.facts.meta,
            kind=kinds.get(task.facts.name, "train"),
        )
        seconds = time.monotonic() - self._began
        # It is written to a file at once, which is the copy that cuts it loose.
        return conclude(asked, model, SlotPool(), seconds=seconds, detach=False)

    def _beside(self, task: Offered) -> dict[str, memoryview]:
        """Return the bytes of what came beside the model; the script has copies of them."""
        names = [spec for spec in task.specs if spec.name.startswith(RESERVED)]
        if not names or self._file is None:
            return {}
        source = SharedSource(self._file, task.specs, task.aliases)
        return {spec.name: memoryview(source.piece(spec.name, 0, spec.nbytes)) for spec in names}

    def _base(self, task: Offered, kind: ParamsType) -> SharedSource | None:
        """Return what the result is to be a difference to; its pages are as they came."""
        differs = self._welcome.transfer is ParamsType.DIFF and kind is ParamsType.FULL
        if not differs or task.facts.name == "submit_model" or self._file is None:
            return None
        return SharedSource(self._file, task.specs, task.aliases)

    def _await_taken(self, number: int) -> None:
        message: Message = Taken(0)
        while isinstance(message, Taken | Refused) and message.number < number:
            message = self._wire.receive(None)
        if isinstance(message, Refused) and message.number == number:
            raise TrainingFailed(self._place.site, message.problem)
        if isinstance(message, Ended):
            self._over = True
            raise ScriptStopped("the job has ended before the result was taken")
        if not isinstance(message, Taken) or message.number != number:
            raise RemoteProtocolError("unexpected", type(message).__name__)

    def _tidy(self) -> None:
        """Give memory back before a wait, when the script has let go of both models."""
        if self._trims:
            self._trims = False
            return_memory()
            torch = sys.modules.get("torch")
            if self._welcome.empties_cache and torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()


def _no_function(model: FLModel, site: object) -> FLModel:
    """Stand for the script where a function is expected; never called."""
    raise NotImplementedError(f"{site}: {model}")
