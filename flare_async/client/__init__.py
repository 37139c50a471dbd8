"""What a training function or script imports: the calls, the model record and its constants.

A script needs another import line and nothing else::

    import flare_async.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        ...
        flare.send(flare.FLModel(params=..., metrics={"accuracy": 0.9}))

Theory of operation: every call belongs to an ``APIContext``, which talks to a *desk*
(``flare_async.jobs.scripts.desk``). The one to use is the ``ctx=`` that is given, else that of the
script whose thread calls, else the process's own. A context remembers the current task and its
model; everything else is the desk's.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from flare_async.client.api import APIContext, current
from flare_async.client.context import init
from flare_async.client.data_types import AnalyticsDataType
from flare_async.client.decorators import evaluate, train
from flare_async.model import FLModel, MetaKey, ModelName, NPConstants, ParamsType

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flare_async.client import lightning, tracking
    from flare_async.client.aio import AsyncTask
    from flare_async.jobs.site import Plain
    from flare_async.transfer.keras_weights import load_weights, weights_of

__all__ = [
    "APIContext",
    "AnalyticsDataType",
    "FLModel",
    "MetaKey",
    "ModelName",
    "NPConstants",
    "ParamsType",
    "clear",
    "evaluate",
    "get_config",
    "get_file",
    "get_job_id",
    "get_site_name",
    "get_task_name",
    "init",
    "is_evaluate",
    "is_running",
    "is_submit_model",
    "is_train",
    "lightning",
    "load_weights",
    "log",
    "receive",
    "send",
    "shutdown",
    "system_info",
    "tasks",
    "tracking",
    "train",
    "weights_of",
]

_MODULES = {
    "lightning": "flare_async.client.lightning",
    "load_weights": "flare_async.transfer.keras_weights",
    "tracking": "flare_async.client.tracking",
    "weights_of": "flare_async.transfer.keras_weights",
}

if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a submodule, or the functions for Keras, on first use (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_MODULES[name])
        return module if module.__name__.endswith(f".{name}") else getattr(module, name)


def is_running(ctx: APIContext | None = None) -> bool:
    """Return True when there is a task, False when the job has ended; waits for either.

    Raises:
        ScriptStopped: the job was aborted, or the client is gone.
    """
    return current(ctx).is_running()


def receive(
    timeout: float | None = None, ctx: APIContext | None = None, *, copy: bool = True
) -> FLModel | None:
    """Return the current task's model; None when none came in ``timeout`` seconds.

    See ``APIContext.receive``.

    Raises:
        ScriptStopped: the job was aborted, or the client is gone.
        TrainingFailed: the model's types do not exist in the script's framework.
    """
    return current(ctx).receive(timeout, copy=copy)


def send(
    model: FLModel,
    clear_cache: bool = True,
    ctx: APIContext | None = None,
) -> None:
    """Hand in the result of the current task; releases its params. See ``APIContext.send``.

    Raises:
        ClientTypeError: ``model`` is no ``FLModel`` (a ``TypeError``).
        ClientCallError: nothing was received, or the model is empty (a ``RuntimeError``).
        TrainingFailed: the params or metrics cannot be used; another model may be sent.
        ScriptStopped: the job was aborted, or the client is gone.
    """
    current(ctx).send(model, clear_cache)


def tasks(ctx: APIContext | None = None) -> AsyncGenerator[AsyncTask, None]:
    """Give the job's tasks to a script with an event loop: ``async for task in flare.tasks()``.

    ``task.model`` is the model, ``await task.send(model)`` hands the result in. See ``aio.tasks``.
    """
    from flare_async.client import aio  # who has no loop need not load it

    return aio.tasks(ctx)


def system_info(ctx: APIContext | None = None) -> dict[str, str]:
    """Return the names of job and site, under "job_id" and "site_name"."""
    return current(ctx).system_info()


def get_site_name(ctx: APIContext | None = None) -> str:
    """Return the name of the site."""
    return current(ctx).get_site_name()


def get_job_id(ctx: APIContext | None = None) -> str:
    """Return the id of the job."""
    return current(ctx).get_job_id()


def get_config(ctx: APIContext | None = None) -> dict[str, Plain]:
    """Return a copy of the site's options, as the recipe gave them."""
    return current(ctx).get_config()


def get_file(name: str, ctx: APIContext | None = None) -> Path:
    """Return where the site has a file that ``recipe.add_client_file`` was given."""
    return current(ctx).get_file(name)


def get_task_name(ctx: APIContext | None = None) -> str:
    """Return "train", "validate" or "submit_model". See ``APIContext.get_task_name``."""
    return current(ctx).get_task_name()


def is_train(ctx: APIContext | None = None) -> bool:
    """Return whether the task is to train; on rank 0 only."""
    return current(ctx).is_train()


def is_evaluate(ctx: APIContext | None = None) -> bool:
    """Return whether the task is to evaluate; on rank 0 only."""
    return current(ctx).is_evaluate()


def is_submit_model(ctx: APIContext | None = None) -> bool:
    """Return whether a trained model is asked for; on rank 0 only."""
    return current(ctx).is_submit_model()


def log(
    key: str,
    value: object,
    data_type: AnalyticsDataType | str,
    ctx: APIContext | None = None,
    **kwargs: object,
) -> bool:
    """Send a record to the trackers; ``global_step=`` or ``step=`` is its step.

    Raises:
        ClientCallError: the rank is not 0 (a ``RuntimeError``).
        ConfigError: the value cannot be used; the error names the key.
        ScriptStopped: the client is gone.
    """
    return current(ctx).log(key, value, data_type, **kwargs)


def clear(ctx: APIContext | None = None) -> None:
    """Let go of the received model: its params are set to None."""
    current(ctx).clear()


def shutdown(ctx: APIContext | None = None) -> None:
    """Tell the client that no more tasks are wanted; harmless twice."""
    current(ctx).shutdown()
