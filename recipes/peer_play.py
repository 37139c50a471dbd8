"""The server's part of a run whose models stay at the sites: who holds what, and who keeps it.

The server sends names and hears of results; an answer is a few hundred bytes and a line a site. It
knows versions by numbers, with references that it cannot pull itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from flare_async.errors import QuorumNotReached
from flare_async.jobs.cohort import JobCohort
from flare_async.recipes.peer_control import Answer, PeerControl
from flare_async.recipes.peer_desk import DROP, HOLD, KEEP, LOST, QUORUM, VALIDATE
from flare_async.recipes.stopping import Judge
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.round import RoundTask

if TYPE_CHECKING:
    from flare_async.jobs.cohort_setting import Recording
    from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["HISTORY", "PeerPlay", "named"]

HISTORY = "swarm.jsonl"
log = structlog.get_logger()


class PeerPlay:
    """One run, as the server knows it: ``holders`` of each version, with their references.

    Version 0 is the first model, which every site has.
    """

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
        self.holders: dict[int, dict[str, str]] = {0: {}}
        self._last = ""  # who aggregated last
        self.judged: dict[int, int] = {}  # versions as they are held, by the judge's numbers

    def here(self) -> tuple[str, ...]:
        """Return the sites that can be reached, in the order of the cohort."""
        return tuple(site for site in self.cohort.sites if site in self.cohort.server.sites)

    def standing(self, version: int) -> int:
        """Return the newest version up to ``version`` that somebody here still holds."""
        standing, here = version, self.cohort.server.sites
        while standing > 0 and not any(site in here for site in self.holders.get(standing, ())):
            standing -= 1
        if standing < version:
            log.warning("model_lost", version=version, again_from=standing)
        return standing

    def hold(self, version: int, answer: Answer, *, made: bool) -> None:
        """Take note of who holds a version, as a site tells of what it ``made`` or was given."""
        ref = answer.made if made else answer.has
        holders = self.holders.setdefault(version, {})
        if made:
            holders.clear()  # a round that was repeated has made another model of this number
        if ref:
            holders[answer.site] = ref

    def facts(self, version: int) -> dict[str, Scalar]:
        """Return what a site needs to have a version."""
        return {"model": version, "model_at": self._at(version)}

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
        failures: dict[str, str] = {}
        meta = {**self.facts(version), **named(sites)}
        for site in self._drawn(task.number, sites):
            answer = await self.control.ask(site, task.name, task.number, meta, total=task.total)
            if answer.problem == QUORUM:
                self._record_failures(task.number, answer)
                raise QuorumNotReached(task.number, answer.arrived, self.least, answer.reasons)
            if answer.problem == LOST:
                self.holders[version] = {}
                return None
            if not answer.problem:
                self._last = record.aggregator = site
                self.hold(version, answer, made=False)
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
        for site in self.here():
            held = self.holders.get(version, {})
            if sum(one in self.cohort.server.sites for one in held) > 1:
                return True
            if site not in held:
                answer = await self.control.ask(site, HOLD, version, self.facts(version))
                if answer.problem == LOST:
                    self.holders[version] = {}
                    return False
                if not answer.problem:
                    self.hold(version, answer, made=False)
        return True

    async def failed(self, number: int, answer: Answer, problem: str) -> None:
        """Record that a site did not carry a round, or its turn, through."""
        log.warning("peer_failed", round=number, site=answer.site, problem=problem)
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

    def _record_failures(self, number: int, answer: Answer) -> None:
        now = self.cohort.server.context.clock.now()
        for site, why in answer.reasons.items():
            if site in self.cohort.sites:
                record = SiteRecord(site, SiteStatus.FAILED, answer.began, now, reason=why)
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
        """Let sites go of all versions but the best one and those that are ``needed``."""
        stale = [number for number in self.holders if number not in {*needed, self._best()}]
        sites = {site for number in stale for site in self.holders.pop(number)}
        if sites:
            meta = {"versions": " ".join(str(number) for number in stale)}
            await self.control.tell(sorted(sites), DROP, 0, meta)

    async def keep(self, last: int) -> None:
        """Have every site write the last and the best version into its files.

        Raises:
            QuorumNotReached: fewer sites than ``min_clients`` have done so.
        """
        best, sites = self._best(), self.here()
        meta = _under("last", self.facts(last))
        if best is not None and (best == 0 or self.holders.get(best)):
            meta |= _under("best", self.facts(best))
        failed = await self.control.tell(sites, KEEP, last, meta)
        row = {"last": last, "best": meta.get("best"), "without": failed}
        await self.cohort.note(HISTORY, row)
        if failed:
            log.warning("swarm_models_not_kept", sites=failed)
        if len(sites) - len(failed) < self.least:
            raise QuorumNotReached(last, len(sites) - len(failed), self.least, failed)

    def _at(self, version: int) -> str:
        """Return the references of a version, of those who have it latest first."""
        return " ".join(reversed(self.holders.get(version, {}).values()))

    def _best(self) -> int | None:
        best = self.cohort.history.best()
        return None if best is None else self.judged.get(best.version, best.version)


def _under(name: str, facts: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key.replace("model", name): value for key, value in facts.items()}


def named(sites: Sequence[str]) -> Mapping[str, Scalar]:
    """Return how an aggregator is told with whom."""
    return {"sites": " ".join(sites)}
