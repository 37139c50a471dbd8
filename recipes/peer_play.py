"""The server's part of a run whose models stay at the sites: who holds what, and who keeps it.

The server sends names and hears of results; an answer is a few hundred bytes and a line a site. It
knows versions by numbers, with references that it cannot pull itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from flare_async.errors import QuorumNotReached
from flare_async.jobs.cohort import JobCohort
from flare_async.recipes.peer_control import Answer, PeerControl
from flare_async.recipes.peer_desk import DROP, HOLD, KEEP, LOST, QUORUM, VALIDATE
from flare_async.recipes.peer_holders import Holders
from flare_async.recipes.stopping import Judge
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.round import RoundTask

if TYPE_CHECKING:
    from flare_async.jobs.cohort_setting import Recording
    from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["HISTORY", "PeerPlay", "named"]

HISTORY = "swarm.jsonl"
AWAY = "is not connected"
log = structlog.get_logger()


class PeerPlay:
    """One run, as the server knows it: it says who does what, and notes what came of it."""

    def __init__(self, recipe: ModelRecipe, cohort: JobCohort, timeout: float | None) -> None:
        self.cohort = cohort
        self.least = recipe.min_clients
        self.control = PeerControl(cohort, timeout)
        self.judge = Judge(
            recipe.key_metric,
            lower=recipe.lower_is_better,
            stop_cond=recipe.stop_cond,
            patience=recipe.patience,
        )
        self.holders = Holders(cohort.server)
        self._last = ""  # who aggregated last
        self.judged: dict[int, int] = {}  # versions as they are held, by the judge's numbers
        self._some = recipe.clients_per_round is not None  # of the sites train: none is missed
        self._untidy: set[str] = set()  # who may hold what nobody needs

    def here(self) -> tuple[str, ...]:
        """Return the sites that can be reached, in the order of the cohort."""
        return tuple(site for site in self.cohort.sites if site in self.cohort.server.sites)

    def away(self) -> dict[str, str]:
        """Return the sites that cannot be reached, with the reason."""
        here = self.cohort.server.sites
        return {site: AWAY for site in self.cohort.sites if site not in here}

    async def standing(self, version: int) -> int:
        """Return the newest version up to ``version`` that is still held; waits as ``doubled``."""
        await self._look_after_best()
        return self.holders.standing(version)

    async def _look_after_best(self) -> None:
        """Have two sites hold the best version; one that is lost is the best no more.

        Its number may be another model's soon.
        """
        best = self._best()
        if best and not (self.holders.living(best) and await self.doubled(best)):
            log.warning("best_model_lost", version=best)
            models = self.cohort.history.models
            models[:] = [replace(model, best=False) for model in models]

    async def validated(self, number: int, version: int, total: int) -> None:
        """Have all sites evaluate a version, and judge it; waits as ``aggregated``.

        Raises:
            QuorumNotReached: fewer sites than ``min_clients`` answered.
        """
        cohort, sites = self.cohort, self.here()
        task = cohort.task(number, total, "validate")
        async with cohort.recording(task, sites, self.least) as record:
            asked = cohort.task(number, total, VALIDATE)
            answer = await self.aggregated(asked, version, sites, record)
            if answer is not None:
                record.metrics = answer.received
                await self.judge.judged(cohort, None, number, answer.received, last=True)

    async def aggregated(
        self, task: RoundTask, version: int, sites: Sequence[str], record: Recording
    ) -> Answer | None:
        """Return the answer of the first aggregator in the draw that carries a round through.

        None says that nobody gives the version any more. Waits for one site at a time, as long as
        its session lives or the control's timeout; cancelling takes the round back from it.

        Raises:
            QuorumNotReached: too few sites did their part, or no site was left to aggregate.
        """
        failures = {} if self._some else self.away()
        self._record_failures(task.number, failures)
        meta = {**self.needing(version), **named(sites)}
        for site in self._drawn(task.number, sites):
            answer = await self.control.ask(site, task.name, task.number, meta, total=task.total)
            if answer.problem == QUORUM:
                failures = {**failures, **answer.reasons}
                self._record_failures(task.number, failures)
                raise QuorumNotReached(task.number, answer.arrived, self.least, failures)
            if answer.problem == LOST:
                self.holders.lost(version)
                return None
            if not answer.problem:
                self._last = record.aggregator = site
                self.holders.given(version, answer)
                self.take_over(task.number, answer)
                return answer
            failures[site] = answer.problem
            await self.failed(task.number, answer, answer.problem)
        raise QuorumNotReached(task.number, 0, self.least, failures)

    def _drawn(self, number: int, sites: Sequence[str]) -> list[str]:
        """Return who aggregates, and who does if they cannot; the last one is asked last."""
        stream = self.cohort.server.context.random.once(f"aggregator of round {number}")
        order = stream.sample(list(sites), len(sites))
        return sorted(order, key=lambda site: site == self._last)

    async def doubled(self, version: int) -> bool:
        """Have a second site hold a version; whether there is still somebody to give it.

        Waits for one site at a time, as ``aggregated``.
        """
        if version == 0:
            return True
        sites = self.cohort.server.sites
        for site in sorted(self.here(), key=lambda site: not sites[site].attached):
            held = self.holders.living(version)
            if len(held) > 1:
                return True
            if site not in held:
                answer = await self.control.ask(site, HOLD, version, self.needing(version))
                if answer.problem == LOST:
                    self.holders.lost(version)
                    return False
                if not answer.problem:
                    self.holders.given(version, answer)
        return bool(self.holders.living(version))

    async def failed(self, number: int, answer: Answer, problem: str) -> None:
        """Record that a site did not carry a round, or its turn, through."""
        log.warning("peer_failed", round=number, site=answer.site, problem=problem)
        self._untidy.add(answer.site)
        row = {"round": number, "aggregator": answer.site, "failed": problem}
        await self.cohort.note(HISTORY, row)
        now = self.cohort.server.context.clock.now()
        record = SiteRecord(answer.site, SiteStatus.FAILED, answer.began, now, reason=problem)
        self.cohort.site_finished(number, record)

    def take_over(self, number: int, answer: Answer) -> None:
        """Take note of what the sites of a round have done, as one of them tells it."""
        cohort = self.cohort
        for record in answer.records:
            cohort.server.note_logs(cohort.run.run_id, record.site)
            cohort.site_finished(number, record)

    def _record_failures(self, number: int, failures: Mapping[str, str]) -> None:
        now = self.cohort.server.context.clock.now()
        for site, why in failures.items():
            if site in self.cohort.sites:
                record = SiteRecord(site, SiteStatus.FAILED, now, now, reason=why)
                self.cohort.site_finished(number, record)

    async def note(self, number: int, aggregator: str) -> None:
        """Write a line about the latest round, and warn of sites that it went on without."""
        record = self.cohort.history.rounds[-1]
        failed = {one.site: one.reason for one in record.sites if one.status is not SiteStatus.OK}
        row = {"round": number, "aggregator": aggregator, "arrived": record.arrived}
        await self.cohort.note(HISTORY, {**row, "without": failed})
        if failed:
            log.warning("swarm_sites_failed", **row, quorum=record.quorum, sites=failed)

    async def release(self, *needed: int) -> None:
        """Let sites go of all versions but the best one and those that are ``needed``.

        Who does not answer within a heartbeat's interval is told again after the next round.
        """
        self._untidy |= self.holders.release({*needed, self._best()})
        here = self.cohort.server.sites
        sites = sorted(site for site in self._untidy if site in here and here[site].attached)
        if sites:
            meta = {"needed": self.holders.needed()}
            seconds = self.cohort.server.context.limits.heartbeat_interval
            failed = await self.control.tell(sites, DROP, 0, meta, seconds=seconds)
            self._untidy -= set(sites) - set(failed)

    async def keep(self, last: int) -> None:
        """Have every site write the last and the best version into its files.

        Raises:
            QuorumNotReached: fewer sites than ``min_clients`` have done so.
        """
        await self._look_after_best()
        best, sites = self._best(), self.here()
        meta = self.holders.facts(last, "last")
        both = meta if best is None else {**meta, **self.holders.facts(best, "best")}
        failed = await self.control.tell(sites, KEEP, last, both)
        without_best = [site for site, problem in failed.items() if problem == LOST]
        if without_best and best is not None:  # its last holder has left just now
            log.warning("best_model_lost", version=best, sites=without_best)
            again = await self.control.tell(without_best, KEEP, last, meta)
            failed = {site: why for site, why in failed.items() if why != LOST} | again
        arrived, failed = len(sites) - len(failed), {**self.away(), **failed}
        await self.cohort.note(HISTORY, {"last": last, "best": best, "without": failed})
        if failed:
            log.warning("swarm_models_not_kept", sites=failed)
        if arrived < self.least:
            raise QuorumNotReached(last, arrived, self.least, failed)

    def needing(self, version: int) -> dict[str, Scalar]:
        """Return what a site needs to have a version, and what else it is to hold, if it does."""
        return {**self.holders.facts(version), "needed": self.holders.needed()}

    def _best(self) -> int | None:
        best = self.cohort.history.best()
        return None if best is None else self.judged.get(best.version, best.version)


def named(sites: Sequence[str]) -> Mapping[str, Scalar]:
    """Return how an aggregator is told with whom."""
    return {"sites": " ".join(sites)}
