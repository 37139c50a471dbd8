"""Swarm learning: federated averaging without a model at the server.

Warnat-Herresthal et al., "Swarm Learning for decentralized and confidential clinical machine
learning", Nature 2021. In round t one of the sites, drawn by the run's seed, is the aggregator a_t.
It has w_t or pulls it from a_{t-1}, the sites pull it from there, and it adds what they return:

    w_{t+1} = sum_k (n_k / n) w_t^k        with n = sum_k n_k

with the weights, options and bits of ``FedAvgRecipe``: the aggregator runs the same round with the
same sites in the same order. Models go from site to site; server and relays pass them on, window by
window. ``swarm_play.py`` is the server's part, ``peer_desk.py`` that of a site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.recipes.cross_site import CrossSiteEvaluation
from flare_async.recipes.fedavg import DATA_KINDS, FedAvgRecipe
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.peer_desk import PeerDesk
from flare_async.recipes.peer_files import collected
from flare_async.recipes.swarm_play import SwarmPlay
from flare_async.roles.granted import granted

__all__ = ["SwarmRecipe"]

ACCEPTED: Final = (
    "progress_timeout",
    "cross_site_eval_timeout",
    "start_task_timeout",
    "max_status_report_interval",
)
PIPES: Final = ("cell_pipe", "file_pipe")


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class SwarmRecipe(FedAvgRecipe):
    """Swarm learning; arguments as ``FedAvgRecipe``, and those of NVFlare's recipe.

    A round goes on without sites that fail while ``min_clients`` are left, with a warning; where
    the aggregator fails another one is drawn and the round is repeated. In the end every site has
    the last and the best model in files.

    ``round_timeout`` bounds a round at its aggregator, ``progress_timeout`` how long the server
    waits for the aggregator's word, training included (None: as long as its session lives).
    With ``do_cross_site_eval`` the aggregator of the last round has all sites evaluate each other's
    models.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "swarm"
    progress_timeout: float | None = None
    do_cross_site_eval: bool = False
    cross_site_eval_timeout: float = 300.0
    start_task_timeout: float | None = None  # accepted, as all below: docs/swarm.md says why
    max_status_report_interval: float | None = None
    expected_data_kind: object = None
    pipe_type: str = "cell_pipe"
    pipe_root_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ACCEPTED:
            seconds = getattr(self, name)
            if seconds is not None and (not is_finite(seconds) or seconds <= 0):
                raise ConfigError(name, seconds, "seconds above 0 are needed")
        bound, most = self.round_timeout, self.progress_timeout
        if bound is not None and most is not None and bound >= most:
            problem = f"ends after progress_timeout={most:g}: no aggregator could tell of it"
            raise ConfigError("round_timeout", bound, problem)
        if self.expected_data_kind not in DATA_KINDS:
            problem = "is neither WEIGHTS nor WEIGHT_DIFF"
            raise ConfigError("expected_data_kind", self.expected_data_kind, problem)
        if self.pipe_type not in PIPES:
            raise ConfigError("pipe_type", self.pipe_type, f"use one of {', '.join(PIPES)}")
        trains = self.train is not None
        if self.do_cross_site_eval and trains and self.evaluate is None:
            hint = "give evaluate=function(model, site)"
            raise ConfigError("evaluate", None, "nothing at the sites evaluates a model", hint)

        if self.do_cross_site_eval and self.staging == "repull":
            problem = "updates that are not held cannot be kept for an evaluation"
            raise ConfigError("staging", "repull", problem, 'use staging="spool"')

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse an evaluation by a server that has no models, too. Raises ConfigError."""
        super().check_sites(sites)
        if self.followers:
            hint = "give do_cross_site_eval=True"
            raise ConfigError("recipe", self.name, "the server has no models to evaluate", hint)

    async def coordinate(self, cohort: JobCohort) -> None:
        """Let the sites reach each other, and tell them who does what."""
        async with granted(cohort.server, cohort.run.run_id, cohort.sites):
            await SwarmPlay(self, cohort).run()

    def desk(self, setting: DeskSetting) -> PeerDesk:
        """Return what a site does in the server's stead."""
        cross = None
        if self.do_cross_site_eval:
            cross = CrossSiteEvaluation(self, self.cross_site_eval_timeout)
        return PeerDesk(self, setting, cross)

    def collect(self, run: Run, sites: Sequence[str]) -> None:
        """Copy one site's models into the run's folder. Raises WorkspaceError."""
        collected(run, sites)

    def demand(self) -> ModelDemand | None:
        """Return what one site needs while it aggregates: it holds two more versions."""
        mean = super().demand()
        return None if mean is None else replace(mean, versions=mean.versions + 2)
