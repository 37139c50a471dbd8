"""What the server says to sites that work with each other: small tasks, and their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flare_async.errors import QuorumNotReached, RemoteProtocolError, TensorFormatError
from flare_async.jobs.cohort import JobCohort
from flare_async.recipes.peer_report import records_of
from flare_async.roles.cohort import Cohort
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.round import RoundTask, Update
from flare_async.transfer.exchange import read_ref
from flare_async.transfer.tensors import TensorSet

__all__ = ["Answer", "PeerControl"]

NOTHING: Final = TensorSet.from_params({})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site said, or in ``problem`` why it said nothing; ``began`` is when it was asked.

    ``made`` and ``has`` are references to versions that it holds, ``records`` what its peers did.
    """

    site: str
    began: float
    problem: str = ""
    arrived: int = 0
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    received: Mapping[str, float] = field(default_factory=dict)
    records: Sequence[SiteRecord] = ()
    made: str = ""
    has: str = ""

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why which peers failed, as far as the site told."""
        try:
            found = json.loads(str(self.meta.get("why", "")))
        except (ValueError, RecursionError):
            return {}
        return {str(key): str(why) for key, why in found.items()} if isinstance(found, dict) else {}


class PeerControl:
    """Gives sites tasks that carry no tensors; ``timeout`` seconds bound each."""

    def __init__(self, cohort: JobCohort, timeout: float | None) -> None:
        self._cohort = cohort
        self._rounds = Cohort(cohort.server, cohort.sites, _Unobserved())
        self._timeout = timeout

    async def ask(
        self, site: str, name: str, number: int, meta: Mapping[str, Scalar], *, total: int = 0
    ) -> Answer:
        """Return what one site answers; waits for it at most ``timeout`` seconds."""
        task = self._cohort.task(number, max(total, number + 1), name, meta)
        return (await self._asked((site,), task))[site]

    async def tell(
        self,
        sites: Sequence[str],
        name: str,
        number: int,
        meta: Mapping[str, Scalar],
        *,
        seconds: float | None = None,
    ) -> dict[str, str]:
        """Give sites a task and return those that failed, with the reasons.

        Waits as ``ask``, at most ``seconds`` where they are given.
        """
        task = self._cohort.task(number, number + 1, name, meta)
        answers = await self._asked(sites, task, seconds)
        return {site: answer.problem for site, answer in answers.items() if answer.problem}

    async def _asked(
        self, sites: Sequence[str], task: RoundTask, seconds: float | None = None
    ) -> dict[str, Answer]:
        began = self._cohort.server.context.clock.now()
        found: dict[str, Answer] = {}
        reasons: Mapping[str, str] = {}
        try:
            async with self._rounds.round(
                task, NOTHING, sites=sites, quorum=1, deadline=seconds or self._timeout
            ) as updates:
                async for site, update in updates:
                    found[site] = self._answer(began, update)
                reasons = {one: record.reason for one, record in updates.records.items()}
        except QuorumNotReached as exc:
            reasons = exc.failures
        for site in sites:
            if site not in found:
                found[site] = Answer(site, began, reasons.get(site) or "gave no answer in time")
        return found

    def _answer(self, began: float, update: Update) -> Answer:
        """Return what a site said; what cannot be understood is its problem, and no one else's."""
        site, meta = update.site, update.meta
        arrived = meta.get("arrived", 0)
        try:
            return Answer(
                site=site,
                began=began,
                problem=str(meta.get("problem", "")),
                arrived=arrived if isinstance(arrived, int) else 0,
                meta=meta,
                metrics=update.metrics,
                received=update.received,
                records=records_of(meta.get("sites", "[]"), began, self._cohort.sites),
                made=held_at(site, meta, "ref"),
                has=held_at(site, meta, "model_ref"),
            )
        except (RemoteProtocolError, TensorFormatError) as exc:
            return Answer(site, began, f"gave an answer that is none: {exc}")


def held_at(site: str, meta: Mapping[str, Scalar], key: str) -> str:
    """Return a reference to what ``site`` holds, as text; nothing where there is none.

    Raises:
        TensorFormatError: it is none.
        RemoteProtocolError: it is another one's.
    """
    text = str(meta.get(key, ""))
    if text and read_ref(text).owner != site:
        raise RemoteProtocolError("bad_ref", f"{site} tells of what another one holds")
    return text


class _Unobserved:
    """Who aggregates is no site's part of a round: it is not counted as one."""

    def site_started(self, number: int, site: str) -> None:
        """Ignore it."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Ignore it."""
