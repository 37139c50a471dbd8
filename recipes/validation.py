"""A model's metrics at every site: what evaluation recipes ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from flare_async.errors import QuorumNotReached
from flare_async.jobs.cohort import JobCohort
from flare_async.roles.messages import Scalar
from flare_async.roles.setting import VALIDATE
from flare_async.transfer.tensors import TensorSet

__all__ = ["Question", "validated"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    """Who is asked, under which number, with which facts, and for how many seconds."""

    sites: Sequence[str]
    number: int
    total: int
    meta: Mapping[str, Scalar]
    timeout: float | None


async def validated(
    cohort: JobCohort, model: TensorSet, question: Question
) -> dict[str, dict[str, float]]:
    """Return what each site says of ``model``; a site that fails is left out, with a warning.

    Waits for the sites, at most ``timeout`` seconds; cancelling takes the task back.
    """
    task = cohort.task(question.number, question.total, VALIDATE)
    task = dataclasses.replace(task, meta=question.meta)
    found: dict[str, dict[str, float]] = {}
    failures: Mapping[str, str] = {}
    try:
        async with cohort.round(
            task, model, sites=question.sites, quorum=1, deadline=question.timeout
        ) as updates:
            failures = updates.failures
            async for site, update in updates:
                found[site] = dict(update.metrics)
    except QuorumNotReached:
        pass  # nobody has answered: all are named below
    missing = [site for site in question.sites if not found.get(site)]
    if missing:
        reasons = {site: failures.get(site, "sent no metrics") for site in missing[:5]}
        log.warning("not_evaluated", model=question.meta.get("model_owner", ""), sites=reasons)
    return {site: found[site] for site in question.sites if found.get(site)}
