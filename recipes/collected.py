"""Rounds whose answers are no models: the server collects them, in the order of the cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from flare_async.errors import TensorFormatError, UpdateRefused
from flare_async.jobs.companions import Companion, joined
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.filters.kept import KeptUpdates
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.metrics import MetricMean
from flare_async.jobs.slots import SLOTS, answers_of, check_shapes
from flare_async.jobs.threads import run_to_end
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.roles.messages import Scalar
from flare_async.roles.round import RoundTask
from flare_async.transfer.capture import Array
from flare_async.transfer.tensors import TensorSet

__all__ = ["Answers", "Question", "collected", "demand_of_answers", "validated"]

FLOAT64: Final = 8  # bytes

Answers = Mapping[str, Array]
Make = Callable[[Sequence[Answers]], TensorSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What sites are sent in a round, and what they answer in ``slots``.

    ``check(answers)`` may raise ValueError: the site is refused with its text. Where ``judged``,
    the metrics are those of ``model``.
    """

    number: int
    model: TensorSet
    slots: Mapping[Companion, TensorSet]
    check: Callable[[Answers], None]
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    judged: bool = True


class Collector:
    """The answers of one round as they come: each is looked at before its site is admitted."""

    def __init__(self, play: ModelRounds, question: Question) -> None:
        self._recipe = play.recipe
        self._question = question
        self._said: dict[str, Mapping[str, Scalar]] = {}
        self.answers: dict[str, Answers] = {}
        slots = question.slots[SLOTS]
        self._room = {spec.name: spec.elements for spec in slots.specs if len(spec.shape) == 1}

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return the weight of a site's metrics. Raises UpdateRefused."""
        check_shapes(site, meta, self._room)
        self._said[site] = meta
        return self._recipe.weigh(site, meta)

    def look(self, site: str, tensors: TensorSet) -> Iterator[None]:
        """Take a site's answers out of what it sent, at once. Raises UpdateRefused."""
        answers = answers_of(site, tensors, self._said.get(site, {}))
        try:
            self._question.check(answers)
        except ValueError as exc:
            raise UpdateRefused(site, str(exc)) from exc
        self.answers[site] = answers
        yield from ()


async def collected(play: ModelRounds, question: Question, make: Make) -> tuple[TensorSet, bool]:
    """Return what ``make`` makes of the answers, and whether the run should end with it.

    Answers are in the order of the cohort, whatever the order of arrival; ``make`` runs in a
    thread. Waits for the sites, at most ``round_timeout``; the result is kept before sites hear
    that their answers were taken.

    Raises:
        QuorumNotReached: fewer than ``min_clients`` answers came.
        TensorFormatError: the rows of two sites have different lengths.
    """
    recipe, cohort = play.recipe, play.cohort
    task = _task(play, question.number, "train", question.meta)
    sent = joined(question.model, question.slots)
    collector, trained = Collector(play, question), MetricMean()
    kept = KeptUpdates(sent, cohort.server.context.limits.memory_bytes, collector.look)
    async with cohort.recording(task, cohort.sites, recipe.min_clients) as record:
        async with cohort.round(
            task,
            sent,
            quorum=recipe.min_clients,
            deadline=recipe.round_timeout,
            reducer=kept,
            weigh=collector.weigh,
        ) as updates:
            here = {site: recipe.received(update) async for site, update in updates}
            taken = {site: collector.answers[site] for site in cohort.sites if site in here}
            check_columns(taken)
            result = await run_to_end(partial(make, [*taken.values()]))
            await cohort.checkpoint(result, question.number + 1)
        for site, (metrics, weight) in here.items():
            trained.add(site, metrics, weight)
        record.metrics = trained.mean(cohort.sites)
        if not question.judged:
            return result, False
        ends = await play.judge.judged(cohort, question.model, question.number, record.metrics)
    return result, ends


def demand_of_answers(values: int, filters: FilterChains) -> ModelDemand:
    """Return what answers of so many float64 values need: twice a site while they are taken."""
    room = FLOAT64 * values
    plain = ModelDemand(model=room, accumulator=room, largest=room, answers=2 * room)
    return with_filters(plain, filters)


def check_columns(answers: Mapping[str, Answers]) -> None:
    """Refuse rows that cannot be put together, naming who sent which. Raises TensorFormatError."""
    first: dict[str, tuple[str, int]] = {}
    for site, arrays in answers.items():
        for name, array in arrays.items():
            if array.ndim == 2:
                other, columns = first.setdefault(name, (site, array.shape[1]))
                if array.shape[1] != columns:
                    said = f"{columns} columns at {other}, {array.shape[1]} at {site}"
                    raise TensorFormatError(f"{name!r} has {said}: sites need the same features")


async def validated(
    play: ModelRounds, number: int, model: TensorSet, meta: Mapping[str, Scalar]
) -> None:
    """Have the sites evaluate the last model. Waits for them, at most ``round_timeout``.

    Raises:
        QuorumNotReached: fewer than ``min_clients`` answered.
    """
    recipe, cohort = play.recipe, play.cohort
    task, seen = _task(play, number, "validate", meta), MetricMean()
    async with cohort.recording(task, cohort.sites, recipe.min_clients) as record:
        async with cohort.round(
            task, model, quorum=recipe.min_clients, deadline=recipe.round_timeout
        ) as updates:
            async for site, update in updates:
                seen.add(site, *recipe.received(update))
        record.metrics = seen.mean(cohort.sites)
        await play.judge.judged(cohort, model, number, record.metrics, last=True)


def _task(play: ModelRounds, number: int, name: str, meta: Mapping[str, Scalar]) -> RoundTask:
    task = play.cohort.task(number, play.recipe.num_rounds, name)
    return replace(task, meta={**task.meta, **meta})
