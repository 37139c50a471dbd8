"""The arguments that recipes with one global model share."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.memory_demand import Staging
from flare_async.jobs.places import is_users
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.scripted import ScriptOptions
from flare_async.jobs.work import EvaluateFunction
from flare_async.recipes.model_checks import check_memory, check_rounds

__all__ = ["ModelArguments"]

MADE: Final = "<string>"  # where a dataclass's own methods are


@dataclass(kw_only=True, eq=False)
class ModelArguments(ScriptOptions, Recipe):
    """What a recipe with a global model is told: the model, who is asked, how it is averaged.

    ``model`` is a ``torch.nn.Module``, a Keras model, a dict of arrays or tensors, one array, or
    ``{"class_path": "package.Class", "args": {...}}``; ``initial_ckpt`` a file with its first
    tensors. ``train(model, site)`` runs at each site and returns an ``FLModel``, plain or async;
    ``train_script`` is a file that calls ``flare_async.client`` instead. ``evaluate(model, site)``
    returns metrics of the received model; it runs before training and, after the last round, once
    more, so that every version is evaluated. Without it the metrics that ``train`` returns, or a
    script sends, are taken as those of the received model.

    ``exact`` adds whole numbers, steps of ``2**-scale_bits``, in place of floats: the model has the
    same bits in whatever order and through whatever relays updates come. Accumulators, and what
    relays pass up, then have 8 bytes a value; weights should not be far below 1, and an update
    whose weight times value is above ``2**(63 - scale_bits)`` divided by the sites is refused.
    """

    min_clients: int  # updates that a round needs; a run needs as many sites to begin
    num_rounds: int = 2
    name: str = "model"
    model: object = None
    initial_ckpt: str | Path | None = None
    initial_model: object = None  # the former name of ``model``
    evaluate: EvaluateFunction | None = None

    round_timeout: float | None = None  # seconds; then the quorum closes the round
    clients_per_round: int | None = None  # updates that close a round; default: all sites'
    over_select: float = 1.0  # asks so many times more sites than are needed
    exclude_vars: str | None = None  # regular expression: such tensors keep the global value
    aggregation_weights: Mapping[str, float] | None = None
    accumulator: str | None = None  # "float32" or "float64"; default by the model's size
    exact: bool = False  # the same bits in any order and grouping, see above
    scale_bits: int = 32  # of an exact sum, from 0 to 60
    staging: Staging = "spool"  # where updates wait: in a file, or "repull": at their sites
    max_norm: float | None = None  # refuses an update with a tensor whose norm is larger
    server_memory_gc_rounds: int | None = None  # gives memory back after so many; 0 is never
    client_memory_gc_rounds: int | None = None  # None: after each, for models from 64 MB on

    key_metric: str = "accuracy"  # chooses the best model
    lower_is_better: bool = False
    stop_cond: str | None = None  # "accuracy >= 0.95": ends the run when the model meets it
    patience: int | None = None  # ends it after so many evaluations without a better one
    save_filename: str = "FL_global_model.pt"

    def check_arguments(self) -> None:
        """Check what needs no model, and take the former name of ``model``.

        Raises:
            ConfigError: an argument cannot be used; the error names it.
        """
        self._take_initial_model()
        check_rounds(self)
        check_memory(self)

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse options and weights of sites that do not exist. Raises ConfigError."""
        for name in ("per_site_config", "aggregation_weights"):
            unknown = sorted(set(getattr(self, name) or {}) - set(sites))
            if unknown:
                raise ConfigError(name, unknown[:5], "no such sites", f"known: {sites[0]}, ...")

    def _take_initial_model(self) -> None:
        if self.initial_model is None:
            return
        if self.model is not None:
            raise ConfigError("initial_model", "...", "model= is given too", "leave it out")
        text = "initial_model is called model now"
        warnings.warn(text, DeprecationWarning, stacklevel=frames_to_user())
        self.model, self.initial_model = self.initial_model, None


def frames_to_user() -> int:
    """Return the ``stacklevel`` at which the caller's warning names the user's own line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name != MADE and is_users(name):
            break
        frame, level = frame.f_back, level + 1
    return level
