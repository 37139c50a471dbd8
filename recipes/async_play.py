"""One run without rounds: tasks out, updates in, a new version when enough are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flare_async.errors import LocalProtocolError, QuorumNotReached
from flare_async.jobs.metrics import MetricMean
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.replay import VERSIONS_FILE, Part, Replay
from flare_async.roles.steps import in_turns
from flare_async.roles.task_stream import StreamTask, StreamUpdate, UpdateStream
from flare_async.transfer.held import Combination, HeldArea, HeldUpdate, Term
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.sums import Contribution
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.recipes.async_recipe import AsyncRecipe

__all__ = ["AsyncPlay"]


class AsyncPlay:
    """The state of one run: the newest version, and the updates that wait for the next one."""

    def __init__(self, recipe: AsyncRecipe, play: ModelRounds) -> None:
        self._recipe = recipe
        self._play = play
        self._cohort = play.cohort
        self._model = recipe.initial
        self._version = 0
        self._begun = dict.fromkeys(self._cohort.sites, 0)
        self._waiting: dict[Part, StreamUpdate] = {}
        self._given: dict[str, Part] = {}  # of a replay
        self._former: dict[int, TensorSet] = {}  # which what was given began from
        options = MeanOptions(
            accumulator=recipe.accumulator, exclude=recipe.exclude_vars, max_norm=recipe.max_norm
        )
        limits = self._cohort.server.context.limits
        self._area = HeldArea(recipe.initial, limits, options, recipe.kind)

    async def run(self) -> TensorSet:
        """Run until there are as many versions as the recipe has rounds; return the last one.

        Waits for sites; the recipe's ``round_timeout`` bounds each task. Cancelling takes all tasks
        back and leaves the newest version.

        Raises:
            QuorumNotReached: fewer than ``min_clients`` sites are left that still work, or nobody
                has anything to do.
        """
        recipe, cohort = self._recipe, self._cohort
        with self._area:
            async with cohort.stream(
                self._next,
                concurrency=recipe.concurrency,
                quorum=recipe.min_clients,
                timeout=recipe.round_timeout,
                weigh=recipe.weigh,
            ) as updates:
                async for site, update in updates:
                    self._given.pop(site, None)
                    self._waiting[Part(site, update.number, update.version)] = update
                    if await self._formed(updates):
                        return self._model
        raise self._stuck(updates.failures)

    def _stuck(self, failures: Mapping[str, str]) -> QuorumNotReached:
        """Return what is told when nobody has anything to do, as in a replay whose sites fail."""
        recipe, here, problem = self._recipe, len(self._waiting), None
        parts = () if recipe.recorded is None else recipe.recorded.parts(self._version + 1)
        missing = sorted(part.said for part in parts if part not in self._waiting)
        if missing:
            problem = f"replay: version {self._version + 1} lacks {', '.join(missing[:5])}"
        needed = len(parts) or recipe.updates_needed()
        return QuorumNotReached(self._version, here, needed, failures, problem=problem)

    def _next(self, site: str) -> StreamTask | None:
        number, version, model = self._begun[site], self._version, self._model
        if self._recipe.recorded is not None:
            # What was given and has not come has failed, and is in the record all the same.
            part = self._given.get(site) or self._recipe.recorded.next_of(site, number)
            if part is None or (part.base != version and part.base not in self._former):
                return None
            number, version, self._given[site] = part.task, part.base, part
            model = self._former.get(version, model)
        self._begun[site] = number + 1
        meta = {"model_version": version}
        task = self._cohort.task(number, self._recipe.num_rounds, meta=meta)
        return StreamTask(task, model, version, self._area.slot())

    async def _formed(self, updates: UpdateStream) -> bool:
        """Form as many versions as there are updates for; return whether the run is over."""
        while (due := self._due()) is not None:
            received = await self._form(due, updates)
            recipe, before = self._recipe, self._version - 1
            ends = await self._play.judge.judged(self._cohort, received[0], before, received[1])
            for site, version in updates.working().items():
                if self._too_old(version):
                    updates.take_back(site)
            if ends or self._version == recipe.num_rounds:
                return True
        return False

    def _due(self) -> list[Part] | None:
        """Return what makes the next version, in the order of arrival, if all of it is there."""
        recorded = self._recipe.recorded
        if recorded is not None:
            return self._recorded(recorded)
        for part in [part for part in self._waiting if self._too_old(part.base)]:
            self._held(self._waiting.pop(part)).release()
        size = self._recipe.updates_needed()
        return list(self._waiting)[:size] if len(self._waiting) >= size else None

    def _recorded(self, recorded: Replay) -> list[Part] | None:
        parts = recorded.parts(self._version + 1)
        found = [part for part in self._waiting if part in parts]
        if not parts or len(found) < len(parts):
            return None
        # Who began from this version in the record must have it before there is a newer one.
        coming = (recorded.next_of(site, number) for site, number in self._begun.items())
        late = any(part is not None and part.base == self._version for part in coming)
        return None if late else found

    def _too_old(self, version: int) -> bool:
        most = self._recipe.max_staleness
        return most is not None and self._version - version > most and not self._recipe.recorded

    async def _form(
        self, due: list[Part], updates: UpdateStream
    ) -> tuple[TensorSet, dict[str, float]]:
        """Make the next version; return the former one and the metrics of it that are there."""
        old, cohort, taken = self._model, self._cohort, [self._waiting.pop(part) for part in due]
        place = {site: index for index, site in enumerate(cohort.sites)}
        order = sorted(range(len(due)), key=lambda at: (place[due[at].site], due[at].task))
        ordered = [taken[at] for at in order]
        ages = [self._version - update.version for update in ordered]
        contributions = [self._held(update).contribution for update in ordered]
        keep, factors = self._recipe.factors([one.weight for one in contributions], ages)
        self._model = await self._combined(contributions, factors, keep)
        self._keep_given(self._version, old)
        self._version += 1
        await cohort.checkpoint(self._model, self._version, behind=True)
        for update in taken:
            update.commit()
            self._held(update).release()
        trained, received = self._metrics(ordered)
        lost, updates.lost = updates.lost, []
        records = [*(update.record for update in ordered), *lost]
        await cohort.formed(self._version, records, trained, self._recipe.updates_needed())
        rows = [{"site": one.site, "task": one.task, "from": one.base} for one in due]
        await cohort.note(VERSIONS_FILE, {"version": self._version, "updates": rows})
        return old, received

    def _keep_given(self, version: int, model: TensorSet) -> None:
        """In a replay, keep what tasks under way began from: who fails is given the same again."""
        bases = {part.base for part in self._given.values()}
        former = {**self._former, version: model}
        self._former = {base: kept for base, kept in former.items() if base in bases}

    async def _combined(
        self, contributions: list[Contribution], factors: list[float], keep: float
    ) -> TensorSet:
        terms = [Term(one, by) for one, by in zip(contributions, factors, strict=True)]
        combination = Combination(self._area, self._model, terms, keep)
        await in_turns(combination.making())
        return combination.result()

    def _metrics(self, updates: list[StreamUpdate]) -> tuple[dict[str, float], dict[str, float]]:
        """Return the metrics of training, and those of the former version that sites received."""
        trained, received = MetricMean(), MetricMean()
        labels = [str(number) for number in range(len(updates))]  # a site may come twice
        for label, one in zip(labels, updates, strict=True):
            trained.add(label, *self._recipe.trained(one.update))
            if one.version == self._version - 1:
                received.add(label, *self._recipe.received(one.update))
        return trained.mean(labels), received.mean(labels)

    def _held(self, update: StreamUpdate) -> HeldUpdate:
        if not isinstance(update.reducer, HeldUpdate):
            raise LocalProtocolError(f"{update.update.site}: its update is not held")
        return update.reducer
