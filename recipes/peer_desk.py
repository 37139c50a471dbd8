"""A site's desk: what it does in the server's stead, when the server tells it to.

Each task of the server is small: a name, a version and who holds it. The site has the version or
pulls it from its holder, runs a round with its peers as a server would (``ModelRounds`` on a cohort
of its own), and answers with where the new version is. A model never goes to the server.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flare_async.errors import QuorumNotReached, SourceLost, TensorFormatError, TrainingFailed
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.keep import keep_torch
from flare_async.jobs.run import BEST_MODEL, GLOBAL_MODEL, Run
from flare_async.jobs.threads import run_to_end
from flare_async.model import ParamsType
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.peer_models import HeldModels
from flare_async.recipes.peer_report import report_of
from flare_async.recipes.stopping import Judge
from flare_async.roles.at_home import at_home
from flare_async.roles.messages import Scalar
from flare_async.roles.peer_server import PeerServer
from flare_async.roles.site_work import SiteResult, SiteTask, Worker
from flare_async.transfer.exchange import read_ref, ref_text
from flare_async.transfer.files import file_chunks, read_file
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.recipes.cross_site import CrossSiteEvaluation
    from flare_async.recipes.model_recipe import ModelRecipe

__all__ = [
    "CROSS",
    "DROP",
    "HOLD",
    "KEEP",
    "LOST",
    "QUORUM",
    "ROUND",
    "TURN",
    "VALIDATE",
    "PeerDesk",
    "told",
]

ROUND: Final = "peer_round"
VALIDATE: Final = "peer_validate"
CROSS: Final = "peer_cross"
KEEP: Final = "peer_keep"
DROP: Final = "peer_drop"
HOLD: Final = "peer_hold"
TURN: Final = "peer_turn"
ROUNDS: Final = frozenset({ROUND, VALIDATE, CROSS, TURN})  # in which the site asks itself, too
QUORUM: Final = "quorum"
LOST: Final = "lost"

Part = Callable[["AtDesk", SiteTask], Awaitable[SiteResult]]


class PeerDesk:
    """One site's desk for one run; holds the versions that were made or used here."""

    parts: Mapping[str, Part] = MappingProxyType({})  # by the names of tasks; filled below

    def __init__(
        self,
        recipe: ModelRecipe,
        setting: DeskSetting,
        cross: CrossSiteEvaluation | None = None,
    ) -> None:
        self.recipe = recipe
        self.setting = setting
        self.cross = cross
        self.models = HeldModels(setting.site, recipe.initial)

    def worker(self, task: str, peers: PeerServer | None) -> Worker | None:
        """Return what works on a task with peers; None for any other task.

        Raises:
            TrainingFailed: the site was granted no peers.
        """
        if task not in self.parts:
            return None
        if peers is None:
            raise TrainingFailed(self.setting.site, f"{task}: no grant to reach the other sites")
        return AtDesk(self, peers)

    def over(self, job: str) -> None:
        """Let go of all versions: nobody may pull them any more."""
        del job
        self.models.drop(self.models.versions)


@dataclass(frozen=True, slots=True)
class AtDesk:
    """Works on the server's tasks with the peers of one job."""

    desk: PeerDesk
    peers: PeerServer

    async def run(self, task: SiteTask) -> SiteResult:
        """Do one task; waits for peers as rounds and pulls do, cancelled when it is taken back.

        A round without a quorum, and a model that nobody gives, are answers, not failures.

        Raises:
            TrainingFailed: the task cannot be understood.
        """
        if "needed" in task.meta:
            self.desk.models.retain(words(task.meta, "needed"))
        try:
            async with at_home(self.peers) if task.task in ROUNDS else nullcontext():
                return await self.desk.parts[task.task](self, task)
        except QuorumNotReached as exc:
            reasons = {site: why[:200] for site, why in list(exc.failures.items())[:100]}
            return told(problem=QUORUM, arrived=exc.arrived, why=json.dumps(reasons))
        except SourceLost as exc:
            return told(problem=LOST, why=str(exc)[:1000])

    async def round(self, task: SiteTask) -> SiteResult:
        """Have the peers train, and hold what becomes of it."""
        version, model = await self.model(task, "model")
        here = self.desk.models.hold(self.peers, version, model)
        cohort = self.cohort(task)
        play = self._play(cohort)
        if self.desk.cross is not None:
            self.desk.cross.begin(cohort)
        try:
            played = await play.averaged(task.round_number, model, total=task.total_rounds)
        finally:
            await cohort.settle()
        made = self.desk.models.hold(self.peers, version + 1, played.model)
        meta = {"ref": ref_text(made), "model_ref": ref_text(here), "sites": self.report(cohort)}
        received = dict(played.received)
        return SiteResult(None, ParamsType.FULL, dict(played.trained), meta, received=received)

    async def validate(self, task: SiteTask) -> SiteResult:
        """Have the peers evaluate a version."""
        version, model = await self.model(task, "model")
        here = self.desk.models.hold(self.peers, version, model)
        cohort = self.cohort(task)
        found = await self._play(cohort).evaluated(model, number=task.round_number)
        meta = {"model_ref": ref_text(here), "sites": self.report(cohort)}
        return SiteResult(None, ParamsType.FULL, {}, meta, received=dict(found))

    async def cross(self, task: SiteTask) -> SiteResult:
        """Have the peers evaluate what they sent here last, and what is in this site's files."""
        cohort, cross = self.cohort(task), self.desk.cross
        if cross is None:
            raise TrainingFailed(self.desk.setting.site, "no cross-site evaluation was asked for")
        path = self.desk.setting.folder / GLOBAL_MODEL
        cohort.run.model = await run_to_end(partial(read_file, path))
        await cross.conclude(cohort)
        return told()

    async def keep(self, task: SiteTask) -> SiteResult:
        """Write the last and the best version into the site's files."""
        nbytes, torch_name = 0, self.desk.recipe.torch_filename
        async with self.desk.setting.gate:
            for what, file in (("last", GLOBAL_MODEL), ("best", BEST_MODEL)):
                if what not in task.meta:
                    continue
                _, model = await self.model(task, what)
                metadata = {"version": str(task.meta[what]), "run": task.job}
                store = self.desk.setting.store
                await store.write(file, file_chunks(model, metadata))
                if torch_name is not None:
                    prefix = "best_" if what == "best" else ""
                    await keep_torch(store, f"{prefix}{torch_name}", model)
                nbytes += model.nbytes
        return told(nbytes=nbytes)

    async def hold(self, task: SiteTask) -> SiteResult:
        """Hold a version, so that it survives its other holder."""
        version, model = await self.model(task, "model")
        here = self.desk.models.hold(self.peers, version, model)
        return told(model_ref=ref_text(here))

    async def drop(self, task: SiteTask) -> SiteResult:
        """Let go of versions that nobody will need, as with every task that says what is."""
        del task
        return told()

    async def model(self, task: SiteTask, what: str) -> tuple[int, TensorSet]:
        try:
            version = int(str(task.meta[what]))
            refs = [read_ref(text) for text in words(task.meta, f"{what}_at")]
        except (KeyError, ValueError, TensorFormatError) as exc:
            site = self.desk.setting.site
            raise TrainingFailed(site, f"{task.task}: no usable {what}: {exc}") from exc
        return version, await self.desk.models.find(self.peers, version, refs)

    def report(self, cohort: JobCohort) -> str:
        most = self.peers.context.limits.control_bytes // 2
        rounds = cohort.history.rounds
        return report_of(rounds[-1].sites if rounds else (), most)

    def cohort(self, task: SiteTask) -> JobCohort:
        setting = self.desk.setting
        sites = words(task.meta, "sites")
        run = Run(run_id=task.job, recipe_name=self.desk.recipe.name, folder=setting.folder)
        cohort = JobCohort(self.peers, sites, run, setting.store, setting.rounds)
        cohort.filters = self.desk.recipe.filters
        return cohort

    def _play(self, cohort: JobCohort) -> ModelRounds:
        play = ModelRounds(self.desk.recipe, cohort)
        play.judge = _NoJudge(self.desk.recipe.key_metric)
        return play


class _NoJudge(Judge):
    """Leaves the judging to the server, which sees every round."""

    async def judged(
        self,
        cohort: JobCohort,
        model: TensorSet | None,
        version: int,
        metrics: Mapping[str, float],
        *,
        last: bool = False,
    ) -> bool:
        """Record nothing."""
        del cohort, model, version, metrics, last
        return False


PeerDesk.parts = MappingProxyType(
    {
        ROUND: AtDesk.round,
        VALIDATE: AtDesk.validate,
        CROSS: AtDesk.cross,
        HOLD: AtDesk.hold,
        KEEP: AtDesk.keep,
        DROP: AtDesk.drop,
    }
)


def told(**meta: Scalar) -> SiteResult:
    """Return an answer without a model."""
    return SiteResult(None, ParamsType.FULL, {}, meta)


def words(meta: Mapping[str, Scalar], key: str) -> Sequence[str]:
    """Return the words of a text in a task's facts."""
    return tuple(str(meta.get(key) or "").split())
