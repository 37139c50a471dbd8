"""Cross-site evaluation: every site's model, and the server's, at every site.

With sites i and models w_j (of site j, or of the server) the result is the matrix m_i(w_j) of
metrics: how the model that j has trained does on the data of i. It is written as
``cross_site_val/cross_val_results.json``: ``{data_site: {model_owner: metrics}}``, where the
server's models are called ``SRV_...``. The models of the sites are those that they sent last: they
are kept as files where updates arrive, so no site is asked, or started, for them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.history import finite
from flare_async.jobs.run import BEST_MODEL
from flare_async.jobs.threads import run_to_end
from flare_async.model import MetaKey
from flare_async.recipes.kept_models import KeptModels
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.validation import Question, validated
from flare_async.transfer.files import read_file
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort
    from flare_async.jobs.recipe import Recipe

__all__ = [
    "FOLDER",
    "RESULTS",
    "CrossSiteEvaluation",
    "add_cross_site_evaluation",
    "evaluated_across",
]

FOLDER: Final = "cross_site_val"
RESULTS: Final = "cross_val_results.json"
MODELS: Final = "model_shareables"

Load = Callable[[], TensorSet]
log = structlog.get_logger()


@dataclass(slots=True)
class CrossSiteEvaluation:
    """Keeps the sites' models during a run, and evaluates them all after it.

    ``sites`` take part (default: all); one has ``timeout`` seconds for each model.
    """

    recipe: Recipe
    timeout: float
    sites: Sequence[str] | None = None
    _kept: KeptModels | None = field(default=None, init=False)

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse sites that do not exist. Raises ConfigError."""
        unknown = sorted(set(self.sites or ()) - set(sites))
        if unknown:
            hint = f"known: {sites[0]}, ..."
            raise ConfigError("participating_clients", unknown[:5], "no such sites", hint)

    def begin(self, cohort: JobCohort) -> None:
        """Keep what the sites send from now on."""
        folder = cohort.run.folder / FOLDER / MODELS
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = KeptModels(folder)
        cohort.tee = self._kept.tee

    def addition(self) -> tuple[str, Mapping[str, object]]:
        """Return the call of ``add_cross_site_evaluation``, for a job folder."""
        given = {"validation_timeout": self.timeout, "participating_clients": self.sites}
        return "add_cross_site_evaluation", given

    async def conclude(self, cohort: JobCohort) -> None:
        """Evaluate every model at every site.

        Waits for the sites, at most ``timeout`` seconds a model; cancelling leaves no result.
        """
        cohort.tee = None
        taking_part = [one for one in cohort.sites if self.sites is None or one in self.sites]
        files = {} if self._kept is None else self._kept.files
        models: dict[str, Load] = {
            site: reader(files[site]) for site in taking_part if site in files
        }
        await evaluated_across(
            cohort, {**models, **self._of_server(cohort)}, taking_part, self.timeout
        )

    def _of_server(self, cohort: JobCohort) -> dict[str, Load]:
        name = self.recipe.torch_filename or "server"
        last, best = cohort.run.model, cohort.run.folder / BEST_MODEL
        models = {} if last is None else {f"SRV_{name}": holder(last)}
        return {**models, f"SRV_best_{name}": reader(best)} if best.exists() else models


def add_cross_site_evaluation(
    recipe: Recipe,
    submit_model_timeout: float = 600,
    validation_timeout: float = 6000,
    participating_clients: Sequence[str] | None = None,
) -> None:
    """Evaluate, after a recipe has run, all models at all sites.

    Scripts answer with metrics when ``flare.is_evaluate()``; functions need ``evaluate=``.
    ``participating_clients`` are the sites that take part (default: all), with their models.
    ``submit_model_timeout`` is accepted and without effect: the models are here already.

    Raises:
        ConfigError: it was added before, a timeout is no number above 0, the sites are no list of
            different names, or the recipe has nothing that evaluates.
    """
    if any(isinstance(one, CrossSiteEvaluation) for one in recipe.followers):
        raise ConfigError("recipe", recipe.name, "has cross-site evaluation already")
    for name, seconds in (
        ("submit_model_timeout", submit_model_timeout),
        ("validation_timeout", validation_timeout),
    ):
        if not is_finite(seconds) or seconds <= 0:
            raise ConfigError(name, seconds, "seconds above 0 are needed")
    check_names(participating_clients)
    if getattr(recipe, "train", None) is not None and getattr(recipe, "evaluate", None) is None:
        hint = "give evaluate=function(model, site)"
        raise ConfigError("evaluate", None, "nothing at the sites evaluates a model", hint)
    if getattr(recipe, "staging", "spool") == "repull":
        problem = "updates that are not held cannot be kept for an evaluation"
        raise ConfigError("staging", "repull", problem, 'use staging="spool"')
    recipe.followers.append(CrossSiteEvaluation(recipe, validation_timeout, participating_clients))


async def evaluated_across(
    cohort: JobCohort, models: Mapping[str, Load], sites: Sequence[str], timeout: float
) -> dict[str, dict[str, dict[str, float]]]:
    """Return and write what each site says of each model; one model is held at a time.

    A model that cannot be read is left out, with a warning. Waits for the sites; cancelling leaves
    no result.
    """
    results: dict[str, dict[str, dict[str, float]]] = {site: {} for site in sites}
    rounds = len(cohort.history.rounds)
    for index, (owner, load) in enumerate(models.items()):
        meta = {MetaKey.VALIDATE_TYPE.value: "model_validate", "model_owner": owner}
        question = Question(sites, rounds + index, rounds + len(models), meta, timeout)
        try:
            model = await run_to_end(load)
        except (FlareError, OSError) as exc:
            log.warning("not_evaluated", model=owner, problem=str(exc))
            continue
        found = await validated(cohort, model, question)
        del model  # before the next one is read
        for site, metrics in found.items():
            results[site][owner] = metrics
    await run_to_end(partial(write, cohort.run.folder / FOLDER, results))
    return results


def check_names(names: object) -> None:
    """Refuse what are no different names. Raises ConfigError."""
    if names is None:
        return
    listed = names if isinstance(names, list | tuple) else ()
    if not listed or len(set(map(str, listed))) < len(listed):
        problem = "a list of different names is needed"
        raise ConfigError("participating_clients", names, problem, "None is all sites")


def write(folder: Path, results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Write the results; a metric that is not finite becomes null."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text(json.dumps(finite(results), indent=2) + "\n", "utf-8")


def reader(path: Path) -> Load:
    """Return what reads a model when it is needed."""
    return lambda: read_file(path)


def holder(model: TensorSet) -> Load:
    """Return what has a model already."""
    return lambda: model
