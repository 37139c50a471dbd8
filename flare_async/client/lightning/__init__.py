"""PyTorch Lightning: one line lets a trainer take part in a job.

Written so that a script needs another import line and nothing else::

    import flare_async.client.lightning as flare

    flare.patch(trainer)
    while flare.is_running():
        trainer.validate(model, datamodule=data)  # of the received model
        trainer.fit(model, datamodule=data)       # what it makes is sent

A fit is the answer to one task. The callback receives the model when validation or training
starts, loads it on every rank, and sends what training has made from rank 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare_async.client import (
    AnalyticsDataType,
    APIContext,
    FLModel,
    MetaKey,
    ModelName,
    NPConstants,
    ParamsType,
    clear,
    evaluate,
    get_config,
    get_file,
    get_job_id,
    get_site_name,
    get_task_name,
    init,
    is_evaluate,
    is_running,
    is_submit_model,
    is_train,
    log,
    receive,
    send,
    shutdown,
    system_info,
    train,
    weights_of,
)
from flare_async.client.lightning.callback import FLCallback
from flare_async.client.lightning.logger import ClientLogger, logger
from flare_async.client.lightning.state import RestoreState

if TYPE_CHECKING:
    import pytorch_lightning as pl

__all__ = [
    "APIContext",
    "AnalyticsDataType",
    "ClientLogger",
    "FLCallback",
    "FLModel",
    "MetaKey",
    "ModelName",
    "NPConstants",
    "ParamsType",
    "RestoreState",
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
    "log",
    "logger",
    "patch",
    "receive",
    "send",
    "shutdown",
    "system_info",
    "train",
    "weights_of",
]


def patch(
    trainer: pl.Trainer,
    restore_state: bool = True,
    load_state_dict_strict: bool = True,
    update_fit_loop: bool = True,
    *,
    ctx: APIContext | None = None,
) -> None:
    """Let ``trainer`` receive its model from the job and send what it makes of it.

    With ``restore_state`` optimizers, schedulers and the gradient scaler go on where the last
    round left them, on every rank. With ``update_fit_loop`` every round trains as many epochs, or
    steps, as the trainer was made for; without it the script raises the trainer's limits itself.
    ``init`` is called where the script has not done so. Patching a second time does nothing.

    Raises:
        ClientCallError: no job runs this code (a ``RuntimeError``).
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined, unused-ignore]
    if any(isinstance(one, FLCallback) for one in callbacks):
        return
    callback = FLCallback(
        rank=trainer.global_rank,
        load_state_dict_strict=load_state_dict_strict,
        update_fit_loop=update_fit_loop,
        ctx=ctx,
    )
    callbacks.append(callback)
    if restore_state:
        callbacks.append(RestoreState())
