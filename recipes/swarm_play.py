"""The server's part of a swarm: who aggregates, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flare_async.jobs.cohort import JobCohort
from flare_async.recipes.peer_desk import CROSS, ROUND
from flare_async.recipes.peer_play import PeerPlay, named

if TYPE_CHECKING:
    from flare_async.recipes.swarm import SwarmRecipe

__all__ = ["SwarmPlay"]


class SwarmPlay(PeerPlay):
    """One run of a swarm.

    The aggregator of a round is never that of the round before while there is another site, and
    what it was given is kept until the next round has ended: one site at a time may be lost.
    """

    def __init__(self, recipe: SwarmRecipe, cohort: JobCohort) -> None:
        super().__init__(recipe, cohort, recipe.progress_timeout)
        self._recipe = recipe
        self._ends: dict[tuple[int, str], bool] = {}  # what was said of each model
        self._trained_at = ""  # who did in the last round of training

    async def run(self) -> None:
        """Run the rounds, have the last version evaluated, and have all sites keep the models.

        Waits for rounds at their aggregators, each bounded by ``progress_timeout``; cancelling
        takes back what is under way.

        Raises:
            QuorumNotReached: a round had too few updates, or no site was left to aggregate.
        """
        number = await self._rounds(0)
        while not await self.doubled(number):  # its only holder is lost: the round is repeated
            number = await self._rounds(await self.standing(number))
        if self._recipe.evaluate is not None:
            await self.validated(number, number, self._recipe.num_rounds)
        await self.keep(number)
        if self._recipe.do_cross_site_eval:
            await self._cross(number)

    async def _rounds(self, number: int) -> int:
        """Run rounds from version ``number`` on; return the number of the last version."""
        ends = False
        while number < self._recipe.num_rounds and not ends:
            number = await self.standing(number)
            found = await self._round(number)
            if found is not None:  # else the version was lost: ``standing`` finds the one before
                ends, number = found, number + 1
                await self.release(number, number - 1)
        return number

    async def _round(self, number: int) -> bool | None:
        """Run one round; return whether the run ends with it, None that its version was lost."""
        cohort, recipe = self.cohort, self._recipe
        sites = self.here()
        task, asked = (cohort.task(number, recipe.num_rounds, name) for name in ("train", ROUND))
        async with cohort.recording(task, sites, recipe.min_clients) as record:
            for site in sites:
                cohort.site_started(number, site)
            answer = await self.aggregated(asked, number, sites, record)
            if answer is None:
                return None
            record.metrics = answer.metrics
            self._trained_at = answer.site
            ends = await self._judged(number, answer.received)
            self.holders.made(number + 1, answer)
        await self.note(number, answer.site)
        return ends

    async def _judged(self, number: int, metrics: Mapping[str, float]) -> bool:
        """Judge a version, once: a round that was repeated says nothing new of the same model."""
        model = number, self.holders.model(number)
        if model not in self._ends:
            self._ends[model] = await self.judge.judged(self.cohort, None, number, metrics)
        return self._ends[model]

    async def _cross(self, number: int) -> None:
        """Have the last aggregator, where the sites' last models are, show them to everybody."""
        answer = await self.control.ask(self._trained_at, CROSS, number, named(self.here()))
        if answer.problem:
            await self.failed(number, answer, answer.problem)
