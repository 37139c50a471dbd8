"""The callback that turns a trainer's validate and fit into answers to tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import structlog

from flare_async.client.api import APIContext, current
from flare_async.client.context import init
from flare_async.client.lightning.base import Callback
from flare_async.client.lightning.loop import FitLimits
from flare_async.errors import ClientCallError
from flare_async.model import FLModel, MetaKey

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

__all__ = ["FL_META", "FLCallback"]

FL_META: Final = "__fl_meta__"  # attribute of a module: what it adds to ``FLModel.meta``
VALIDATE: Final = "validate"
SUBMIT: Final = "submit_model"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Received:
    """What rank 0 tells the other ranks of a task; ``problem`` is why the model cannot be used.

    ``task`` is empty where the job has ended.
    """

    task: str = ""
    round_number: int = 0
    names: tuple[str, ...] = ()
    problem: str = ""


class FLCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Receives at the first validation or training of a task, sends when training ends.

    ``metrics`` are those of the received model: of a ``trainer.validate`` before the fit.
    """

    def __init__(
        self,
        rank: int = 0,
        load_state_dict_strict: bool = True,
        update_fit_loop: bool = True,
        *,
        ctx: APIContext | None = None,
    ) -> None:
        self._ctx = ctx or _context(rank)
        self._strict = load_state_dict_strict
        self._limits = FitLimits()
        self._prolongs = update_fit_loop
        self._task: Received | None = None  # the current task, from its receipt to its answer
        self._evaluated = False  # the last task was answered by a validation
        self._fitting = False
        self._first_step = 0
        self.metrics: dict[str, object] | None = None

    # Hooks

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Receive the model that is validated, if it was not yet; not within a fit.

        A task that asks for the site's own model is answered at once. When the job has ended, the
        module is validated as it is.
        """
        if not _is_validate(trainer):
            return
        self._evaluated = False
        self._receive(trainer, pl_module)
        if self._task is not None and self._task.task == SUBMIT:
            self._answer(FLModel(params=_params_of(trainer, pl_module)))
            self._evaluated = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the received model's metrics; a task that asks for no more is answered."""
        del pl_module
        if not _is_validate(trainer) or self._task is None or self.metrics is not None:
            return
        self.metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if self._task.task == VALIDATE:
            self._answer(FLModel(metrics=self.metrics))
            self._evaluated = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out a fit that belongs to no task: the task before it asked for metrics only."""
        del pl_module
        self._fitting = False
        if self._evaluated or (self._task is not None and self._task.task == VALIDATE):
            self._leave_out(trainer, "the task asks for metrics only")
            self._fitting = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Receive the model to train, unless a validation has.

        Raises:
            ClientCallError: the job has ended, or the task asks for something else than training
                and no validation came before the fit.
        """
        self._receive(trainer, pl_module)
        if self._task is None:
            raise ClientCallError("receive: the job has ended; ask is_running() first")
        if self._task.task in {VALIDATE, SUBMIT}:
            name = self._task.task
            raise ClientCallError(f"the task is {name}: call trainer.validate() before fit()")
        self._fitting = True
        self._first_step = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the trained model from rank 0; the next fit trains as long as this one."""
        if self._task is None or trainer.interrupted:
            return
        meta = {
            MetaKey.NUM_STEPS_CURRENT_ROUND: trainer.global_step - self._first_step,
            **_meta_of(pl_module),
        }
        params = _params_of(trainer, pl_module)
        self._answer(FLModel(params=params, metrics=self.metrics, meta=meta))
        if self._prolongs:
            self._limits.prolong(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a fit that trained nothing: its task would never be answered.

        Raises:
            ClientCallError: the trainer's limits were reached before it began.
        """
        del pl_module
        self._evaluated = False
        self._limits.take_up(trainer)
        if not self._fitting:
            limits = f"max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}"
            problem = f"fit() trained nothing: {limits} were reached, or there are no batches"
            raise ClientCallError(f"{problem}; patch with update_fit_loop=True, or raise them")

    # Internals

    def _leave_out(self, trainer: pl.Trainer, reason: str) -> None:
        log.info("fit_left_out", site=self._ctx.get_site_name(), reason=reason)
        self._limits.leave_out(trainer)

    def _answer(self, model: FLModel) -> None:
        self._ctx.send(model)
        self._task = None
        self.metrics = None

    def _receive(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Receive the next task's model on rank 0 and load it on every rank.

        Waits for the next task where the last one was answered; leaves none when the job has ended.

        Raises:
            ClientCallError: the model does not fit the module (a ``RuntimeError``).
        """
        if self._task is not None:
            return
        told = self._take(module) if trainer.is_global_zero else Received()
        several = trainer.world_size > 1
        if several:
            told = cast("Received", trainer.strategy.broadcast(told, src=0))
        if told.problem:
            raise ClientCallError(told.problem)
        if several:
            _spread(module, told.names)
        self._task = told if told.task else None

    def _take(self, module: pl.LightningModule) -> Received:
        model = self._ctx.receive()
        if model is None:
            return Received()
        name, number = self._ctx.get_task_name(), model.current_round or 0
        if name == SUBMIT:
            return Received(name, number)
        try:
            state = _tensors(model.params or {})
            module.load_state_dict(state, strict=self._strict)
        except (RuntimeError, TypeError, ValueError) as exc:
            problem = f"the received model does not fit the module: {exc}"
            return Received(name, number, problem=problem)
        return Received(name, number, tuple(state))


def _context(rank: int) -> APIContext:
    try:
        return current()
    except ClientCallError:
        return init(rank)


def _is_validate(trainer: pl.Trainer) -> bool:
    return str(trainer.state.fn.value if trainer.state.fn else "") == VALIDATE


def _params_of(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, object] | None:
    """Return what rank 0 sends: the module's tensors, in main memory."""
    if not trainer.is_global_zero:
        return None
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def _tensors(params: Mapping[str, object]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.as_tensor(value) for name, value in params.items()}


def _spread(module: pl.LightningModule, names: tuple[str, ...]) -> None:
    """Give the tensors that rank 0 has loaded to all ranks."""
    import torch.distributed

    own = module.state_dict()
    for name in names:
        if name in own:
            torch.distributed.broadcast(own[name], src=0)


def _meta_of(module: pl.LightningModule) -> dict[str, object]:
    meta = getattr(module, FL_META, None)
    if meta is None:
        return {}
    if not isinstance(meta, Mapping):
        kind = type(meta).__name__
        raise ClientCallError(f"{FL_META} of {type(module).__name__} is a {kind}, not a dict")
    return dict(meta)
