"""How long a fit may be: so many epochs and steps a round, though the trainer counts them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytorch_lightning as pl

__all__ = ["FitLimits"]


class FitLimits:
    """Reads a trainer's limits before the first round ends, and moves them by as much a round."""

    __slots__ = ("_epochs", "_least_epochs", "_least_steps", "_left_out", "_steps")

    def __init__(self) -> None:
        self._epochs: int | None = None
        self._steps: int | None = None
        self._least_epochs: int | None = None
        self._least_steps: int | None = None
        self._left_out: float | int | None = None

    def prolong(self, trainer: pl.Trainer) -> None:
        """Let the next fit go on for as many epochs and steps as the first one had."""
        loop, steps = trainer.fit_loop, trainer.fit_loop.epoch_loop
        if self._steps is None:
            self._epochs, self._least_epochs = loop.max_epochs, loop.min_epochs
            self._steps, self._least_steps = steps.max_steps, steps.min_steps
        # The epoch that has just been trained is counted when the hooks of its end are through.
        epochs = loop.epoch_progress.current.processed
        loop.max_epochs = _moved(self._epochs, epochs)
        loop.min_epochs = _moved(self._least_epochs, epochs)
        steps.max_steps = _moved(self._steps, trainer.global_step) or -1
        steps.min_steps = _moved(self._least_steps, trainer.global_step)
        trainer.num_sanity_val_steps = 0  # the model of later rounds has been tried

    def leave_out(self, trainer: pl.Trainer) -> None:
        """Let the fit that begins train nothing."""
        self._left_out = trainer.limit_train_batches
        trainer.limit_train_batches = 0

    def take_up(self, trainer: pl.Trainer) -> None:
        """Undo ``leave_out``."""
        if self._left_out is not None:
            trainer.limit_train_batches, self._left_out = self._left_out, None


def _moved(limit: int | None, by: int) -> int | None:
    """Return a limit that comes so much later; None and -1 are no limits."""
    return limit if limit is None or limit <= 0 else limit + by
