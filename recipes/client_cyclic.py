"""Cyclic weight transfer from site to site, without a model at the server.

The algorithm is that of ``cyclic.py``: in round t the sites are visited in an order k_1, ..., k_n,
each starting from what the one before it made of the model. Here each of them pulls the model from
the one before it, trains, and holds what it made until the next but one has its own; the server
says whose turn it is. A site that fails is passed over; where the only holder of the latest model
is lost, the next site goes on from the model before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from flare_async.errors import QuorumNotReached
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.metrics import MetricMean
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.model import ParamsType
from flare_async.recipes.cyclic import CyclicRecipe
from flare_async.recipes.peer_control import Answer
from flare_async.recipes.peer_desk import LOST, TURN, AtDesk, PeerDesk
from flare_async.recipes.peer_files import collected
from flare_async.recipes.peer_play import PeerPlay, named
from flare_async.roles.granted import granted
from flare_async.roles.site_work import SiteResult, SiteTask
from flare_async.transfer.exchange import ref_text

__all__ = ["ClientCyclicRecipe"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class ClientCyclicRecipe(CyclicRecipe):
    """Client-controlled cyclic weight transfer; arguments as ``CyclicRecipe``.

    In the end every site has the last and the best model in files. The model's bits are those of
    ``CyclicRecipe``.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "client-cyclic"

    async def coordinate(self, cohort: JobCohort) -> None:
        """Let the sites reach each other, and tell them whose turn it is."""
        async with granted(cohort.server, cohort.run.run_id, cohort.sites):
            await CyclicPlay(self, cohort).run()

    def desk(self, setting: DeskSetting) -> PeerDesk:
        """Return what a site does in the server's stead."""
        return CyclicDesk(self, setting)

    def collect(self, run: Run, sites: Sequence[str]) -> None:
        """Copy one site's models into the run's folder. Raises WorkspaceError."""
        collected(run, sites)

    async def turn(self, at: AtDesk, task: SiteTask) -> SiteResult:
        """Train at one site on what the site before it has made, and hold the result."""
        version, model = await at.model(task, "model")
        cohort, site = at.cohort(task), at.desk.setting.site
        asked = cohort.task(task.round_number, task.total_rounds)
        async with cohort.recording(asked, (site,), 1):
            made, update = await self._turn(cohort, asked, model, site)
        ref = at.desk.models.hold(at.peers, version + 1, made)
        received, _ = self.received(update)
        meta = {"ref": ref_text(ref), "sites": at.report(cohort)}
        metrics = dict(update.metrics)
        return SiteResult(None, ParamsType.FULL, metrics, meta, received=dict(received))


class CyclicDesk(PeerDesk):
    """A desk that takes turns, too."""


async def turn(at: AtDesk, task: SiteTask) -> SiteResult:
    """Take a site's turn; raises as the recipe's does."""
    return await cast("ClientCyclicRecipe", at.desk.recipe).turn(at, task)


CyclicDesk.parts = MappingProxyType({**PeerDesk.parts, TURN: turn})


@dataclass(slots=True)
class _Taken:
    """The turns of one round."""

    answers: list[Answer] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class CyclicPlay(PeerPlay):
    """One run; versions are counted by turns, and judged by rounds."""

    def __init__(self, recipe: ClientCyclicRecipe, cohort: JobCohort) -> None:
        super().__init__(recipe, cohort, None)
        self._recipe = recipe

    async def run(self) -> None:
        """Let the model go round ``num_rounds`` times, and have all sites keep it.

        Waits for one site at a time; cancelling takes its turn back.

        Raises:
            QuorumNotReached: too few sites of a round have trained.
        """
        version, last = 0, ""
        number, ends = 0, False
        while number < self._recipe.num_rounds and not ends:
            order = self._recipe.order_of(self.cohort, number, last)
            version, ends = await self._round(number, version, order)
            last, number = order[-1], number + 1
        while not await self.doubled(version):
            version = await self.standing(version)
        if self._recipe.evaluate is not None:
            self.judged[number] = version
            await self.validated(number, version, self._recipe.num_rounds)
        await self.keep(version)

    async def _round(self, number: int, version: int, order: tuple[str, ...]) -> tuple[int, bool]:
        cohort, recipe, taken = self.cohort, self._recipe, _Taken()
        task = cohort.task(number, recipe.num_rounds)
        self.judged[number] = begun = version
        async with cohort.recording(task, order, recipe.min_clients) as record:
            for site in order:
                cohort.site_started(number, site)
                version = await self._turn(number, version, site, taken)
                await self.release(version, version - 1, begun)
            if len(taken.answers) < recipe.min_clients:
                count = len(taken.answers)
                raise QuorumNotReached(number, count, recipe.min_clients, taken.failures)
            trained, seen = MetricMean(), MetricMean()
            for answer in taken.answers:
                trained.add(answer.site, answer.metrics, 1.0)
            record.metrics = trained.mean(order)
            seen.add(taken.answers[0].site, taken.answers[0].received, 1.0)
            ends = await self.judge.judged(cohort, None, number, seen.mean(order))
        await self.note(number, "")
        return version, ends

    async def _turn(self, number: int, version: int, site: str, taken: _Taken) -> int:
        """Have one site train; return the version that the next one begins with."""
        while True:
            version = await self.standing(version)
            meta = {**self.needing(version), **named((site,))}
            total = self._recipe.num_rounds
            answer = await self.control.ask(site, TURN, number, meta, total=total)
            if answer.problem != LOST or version == 0:
                break
            self.holders.lost(version)
        if answer.problem:
            reasons: Mapping[str, str] = answer.reasons
            taken.failures[site] = reasons.get(site, answer.problem)
            await self.failed(number, answer, reasons.get(site, answer.problem))
            return version
        self.take_over(number, answer)
        self.holders.made(version + 1, answer)
        taken.answers.append(answer)
        return version + 1
