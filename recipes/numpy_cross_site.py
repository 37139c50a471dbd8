"""Cross-site evaluation without training, of models that sites and server have already.

Sites submit their models (``flare.is_submit_model()`` in a script), the server reads its own from
files; then each is evaluated at every site, see ``cross_site.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from flare_async.errors import ConfigError
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.scripted import ScriptOptions
from flare_async.jobs.work import EvaluateFunction, Work
from flare_async.model import MetaKey, ModelName, NPConstants
from flare_async.recipes.cross_site import FOLDER, MODELS, Load, evaluated_across, reader
from flare_async.recipes.fedeval import own_names, refuse_training
from flare_async.recipes.kept_models import KeptModels
from flare_async.recipes.model_checks import is_finite
from flare_async.transfer.files import read_file
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["NumpyCrossSiteEvalRecipe"]

DEFAULT_MODELS = {"server": "server.npy"}


@recipe_arguments
@dataclass(eq=False)
class NumpyCrossSiteEvalRecipe(ScriptOptions, Recipe):
    """Evaluates every model at every site; nobody trains.

    ``model_dir`` has the server's models, ``model_name`` their files by label (``.npy``, one array,
    or ``.safetensors``); ``initial_ckpt`` is one such file. ``eval_script`` answers
    ``flare.is_submit_model()`` with its model and ``flare.is_evaluate()`` with metrics; with
    ``evaluate(model, site)`` in its place only the server's models are evaluated. One model is held
    at the server at a time; those of the sites are files of the run folder.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "numpy_cross_site_eval"
    min_clients: int = 2
    eval_script: str | Path | None = None
    eval_args: str = ""
    initial_ckpt: str | Path | None = None
    model_dir: str | Path | None = None
    model_name: Mapping[str, str] | None = None
    submit_model_timeout: float = 600
    validation_timeout: float = 6000
    evaluate: EvaluateFunction | None = None
    num_rounds: int = 1

    def __post_init__(self) -> None:
        self.check_basics()
        for name in ("submit_model_timeout", "validation_timeout"):
            if not is_finite(getattr(self, name)) or getattr(self, name) <= 0:
                raise ConfigError(name, getattr(self, name), "seconds above 0 are needed")
        self.train_script = self.train_script or self.eval_script
        self.train_args = self.train_args or self.eval_args
        if self.train_script is None and self.evaluate is None:
            hint = "give eval_script=path or evaluate=function(model, site)"
            raise ConfigError("eval_script", None, "nothing that evaluates", hint)
        if self.train_script is None:
            self.train = refuse_training
        self.per_site_config = own_names(self.per_site_config)
        self.check_scripts()
        self.models = self._models()
        if not self.models:
            hint = "give initial_ckpt=, or model_dir= and model_name="
            raise ConfigError("model_dir", None, "no model of the server", hint)
        self.first = next(iter(self.models.values()))()

    def work(self, site: str) -> Work:
        """Return the script or the function."""
        own = self.site_work(site)
        return Work(
            train=self.train if own.script is None else None,
            framework=own.framework or "numpy",
            evaluate=self.evaluate if own.script is None else None,
            config=own.config,
            script=own.script,
        )

    def demand(self) -> ModelDemand:
        """Return one model beside the first."""
        return ModelDemand.of_mean(self.first)

    async def coordinate(self, cohort: JobCohort) -> None:
        """Collect the sites' models, then evaluate all of them everywhere.

        Raises:
            QuorumNotReached: fewer than ``min_clients`` scripts have submitted a model.
        """
        await cohort.checkpoint(self.first, 0)
        models: dict[str, Load] = {}
        if self.train_script is not None:
            models |= await self._submitted(cohort)
        models |= {f"SRV_{label}": load for label, load in self.models.items()}
        await evaluated_across(cohort, models, cohort.sites, self.validation_timeout)

    async def _submitted(self, cohort: JobCohort) -> dict[str, Load]:
        kept = KeptModels(cohort.run.folder / FOLDER / MODELS)
        kept.folder.mkdir(parents=True, exist_ok=True)
        meta = {MetaKey.SUBMIT_MODEL_NAME.value: ModelName.BEST_MODEL.value}
        task, limits = cohort.task(0, 1, "submit_model", meta), cohort.server.context.limits
        async with cohort.recording(task, cohort.sites, self.min_clients):
            with WeightedMean(self.first, order=cohort.sites, limits=limits) as mean:
                async with cohort.round(
                    task,
                    self.first,
                    quorum=self.min_clients,
                    deadline=self.submit_model_timeout,
                    reducer=kept.tee(task, self.first, mean),
                ) as updates:
                    async for _ in updates:
                        pass
        return {site: reader(kept.files[site]) for site in cohort.sites if site in kept.files}

    def _models(self) -> dict[str, Load]:
        files: dict[str, Path] = {}
        if self.initial_ckpt is not None:
            path = Path(self.initial_ckpt).expanduser()
            files[path.stem] = path
        if self.model_dir is not None:
            names = DEFAULT_MODELS if self.model_name is None else self.model_name
            folder = Path(self.model_dir).expanduser()
            files |= {label: folder / file for label, file in names.items()}
        for path in files.values():
            if not path.is_file():
                raise ConfigError("model_dir", str(path), "there is no such file")
        return {label: partial(loaded, path) for label, path in files.items()}


def loaded(path: Path) -> TensorSet:
    """Return a model of one array, or of a safetensors file.

    Raises:
        ConfigError: there is no such array.
        FlareError: the safetensors file cannot be read.
    """
    if path.suffix != ".npy":
        return read_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise ConfigError("model_dir", str(path), f"cannot be read: {exc}") from exc
    return TensorSet.from_params({NPConstants.NUMPY_KEY: array})
