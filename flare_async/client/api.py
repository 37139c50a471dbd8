"""The calls of a training script: what they wait for, what they return, and which they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import TracebackType
from typing import Self

from flare_async.client.data_types import AnalyticsDataType, make_record
from flare_async.errors import ClientCallError, ClientTypeError
from flare_async.jobs.added_files import path_of
from flare_async.jobs.scripts.desk import Desk, TaskFacts
from flare_async.jobs.site import FILES, Plain, plain
from flare_async.model import FLModel

__all__ = ["APIContext", "current"]


class APIContext:
    """One script's connection to its site; the functions of ``flare_async.client`` are its methods.

    Rank 0 exchanges models. On other ranks ``is_running`` is true once a task and ends with the
    job, ``receive`` returns None and ``send`` does nothing; what a task is they must be told by
    rank 0. One thread at a time may use a context. As a context manager it is shut down at the
    end of the block.

    Every call raises ``ScriptStopped`` once the job was aborted or the client is gone: a script
    should let it pass and end.
    """

    def __init__(self, desk: Desk, rank: int) -> None:
        self.desk = desk
        self.rank = rank
        self._facts: TaskFacts | None = None
        self._model: FLModel | None = None
        self._done = 0  # the number of the task whose result was sent
        self._closed = False
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        place = self.desk.place
        return f"<APIContext of {place.site}, job {place.job}, rank {self.rank}>"

    @property
    def has_ended(self) -> bool:
        """Whether a call has found that the job has ended, or the context was shut down."""
        return self._ended or self._closed

    def is_running(self) -> bool:
        """Return True when there is a task, False when the job has ended.

        Waits for ever: a site may be left out of many rounds.

        Raises:
            ScriptStopped: the job was aborted, or the client is gone.
        """
        return self.poll(None)

    def poll(self, timeout: float | None) -> bool:
        """Return whether a task came within ``timeout`` seconds; ``has_ended`` tells why not.

        Raises:
            ScriptStopped: the job was aborted, or the client is gone.
        """
        if self._closed:
            return False
        try:
            return self._wait(timeout) is not None
        except TimeoutError:
            return False

    def receive(self, timeout: float | None = None, *, copy: bool = True) -> FLModel | None:
        """Return the current task's model; the same object until it was sent with clear_cache.

        Waits for a task, at most ``timeout`` seconds (None: for ever). Returns None when none came
        in time, when the job has ended, and on ranks other than 0. Params are the script's own,
        unless ``copy=False`` allows read-only NumPy views.

        Raises:
            ScriptStopped: the job was aborted, or the client is gone.
            TrainingFailed: the model's types do not exist in the script's framework.
        """
        if self.rank != 0 or self._closed:
            return None
        if self._model is not None:
            return self._model
        if not self.poll(timeout):
            return None
        self._model = self.desk.take(copy=copy)
        return self._model

    def send(self, model: FLModel, clear_cache: bool = True) -> None:
        """Hand in the result of the current task; returns when the client has it.

        Afterwards the params of ``model`` and of the received model are released (set to None).
        With ``clear_cache=False`` both keep them, and ``receive`` returns the same model until
        ``is_running`` has found the next task.

        Raises:
            ClientTypeError: ``model`` is no ``FLModel`` (a ``TypeError``).
            ClientCallError: nothing was received, or the model is empty (a ``RuntimeError``).
            TrainingFailed: the params or metrics cannot be used; another model may be sent.
            ScriptStopped: the job was aborted, or the client is gone.
        """
        if self.rank != 0:
            return
        self._check_result(model)
        # A new dict: what is referenced by nothing else need not be copied at the desk.
        params = None if model.params is None else dict(model.params)
        outgoing = dataclasses.replace(model, params=params)
        del params
        if clear_cache:
            model.params = None
        try:
            self.desk.hand_in(outgoing)
        except BaseException:
            model.params = outgoing.params
            raise
        self._done = self._facts.number if self._facts is not None else 0
        if clear_cache:
            model.optimizer_params = None
            self.clear()

    def system_info(self) -> dict[str, str]:
        """Return the names of job and site, under "job_id" and "site_name"."""
        return {"job_id": self.get_job_id(), "site_name": self.get_site_name()}

    def get_site_name(self) -> str:
        """Return the name of the site."""
        return self.desk.place.site

    def get_job_id(self) -> str:
        """Return the id of the job."""
        return self.desk.place.job

    def get_config(self) -> dict[str, Plain]:
        """Return a copy of the site's options, as the recipe gave them."""
        config = self.desk.place.config
        return {key: plain(f"config.{key}", value) for key, value in config.items() if key != FILES}

    def get_file(self, name: str) -> Path:
        """Return where the site has a file that ``recipe.add_client_file`` was given.

        Raises:
            ConfigError: it has none of that name; the hint says which there are.
        """
        return path_of(self.desk.place.config, name)

    def get_task_name(self) -> str:
        """Return "train", "validate" or "submit_model"; waits for the first task.

        Between a ``send`` and the next ``is_running`` or ``receive`` it is still the last task's.

        Raises:
            ClientCallError: the rank is not 0, or the job has ended (a ``RuntimeError``).
            ScriptStopped: the job was aborted, or the client is gone.
        """
        self._only_first("get_task_name")
        if self._facts is None:
            facts = None if self._closed else self._wait(None)
            if facts is None:
                raise ClientCallError("get_task_name: the job has ended; ask is_running() first")
            return facts.name
        return self._facts.name

    def is_train(self) -> bool:
        """Return whether the task is to train; waits and raises as ``get_task_name``."""
        self._only_first("is_train")
        return self.get_task_name() == "train"

    def is_evaluate(self) -> bool:
        """Return whether the task is to evaluate; waits and raises as ``get_task_name``."""
        self._only_first("is_evaluate")
        return self.get_task_name() == "validate"

    def is_submit_model(self) -> bool:
        """Return whether a trained model is asked for; waits and raises as ``get_task_name``."""
        self._only_first("is_submit_model")
        return self.get_task_name() == "submit_model"

    def log(
        self, key: str, value: object, data_type: AnalyticsDataType | str, **kwargs: object
    ) -> bool:
        """Send a record to the trackers; returns at once, True as in NVFlare.

        Raises:
            ClientCallError: the rank is not 0 (a ``RuntimeError``).
            ConfigError: the value cannot be used; the error names the key.
            ScriptStopped: the client is gone.
        """
        self._only_first("log")
        self.desk.log(make_record(key, value, data_type, **kwargs))
        return True

    def clear(self) -> None:
        """Let go of the received model: its params are set to None."""
        if self._model is not None:
            self._model.params = self._model.optimizer_params = None
        self._model = None

    def shutdown(self) -> None:
        """Tell the client that no more tasks are wanted; harmless twice."""
        self.clear()
        self._closed = True
        self.desk.close()

    def _wait(self, timeout: float | None) -> TaskFacts | None:
        facts = self.desk.wait(timeout)
        if facts is None:
            self._ended = True
            self.clear()
            return None
        if self._facts is not None and facts.number != self._facts.number:
            self.clear()
        self._facts = facts
        return facts

    def _check_result(self, model: object) -> None:
        if not isinstance(model, FLModel):
            kind = type(model).__name__
            raise ClientTypeError(f"send: an FLModel is needed, got {kind}")
        if self._closed:
            raise ClientCallError("send: the context is shut down; send before shutdown()")
        if self._facts is None:
            raise ClientCallError("send: nothing was received; call receive() before send()")
        if self._done == self._facts.number:
            name, number = self._facts.name, self._facts.round_number
            problem = f"the result of {name} in round {number} was sent already"
            raise ClientCallError(f"send: {problem}; ask is_running() for the next task")
        if not model.params and not model.metrics:
            raise ClientCallError("send: the model has neither params nor metrics; fill one in")

    def _only_first(self, name: str) -> None:
        if self.rank != 0:
            problem = f"{name}: works on rank 0 only, this is rank {self.rank}"
            raise ClientCallError(f"{problem}; let rank 0 call it and broadcast what it returns")


def current(ctx: APIContext | None = None) -> APIContext:
    """Return ``ctx`` or this script's own context.

    In a thread of a simulation it is made on first use; a process must have called ``init``.

    Raises:
        ClientCallError: there is none; the error says what to do.
    """
    from flare_async.client.context import find  # that module makes contexts of this class

    return find(ctx)
