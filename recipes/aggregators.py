"""What ``aggregator=`` may be: a robust rule, or an object that is handed each update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flare_async.errors import ConfigError, LocalProtocolError, TrainingFailed
from flare_async.jobs.conducting import note
from flare_async.jobs.places import place_of
from flare_async.jobs.result import checked_model, checked_tensors
from flare_async.jobs.work import Framework
from flare_async.limits import Limits
from flare_async.model import FLModel, ParamsType
from flare_async.recipes.finite import check_finite
from flare_async.roles.round import Update
from flare_async.transfer.held_round import HeldRound
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.source import TensorSource
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "AggregatedUpdates",
    "Aggregating",
    "ModelAggregator",
]


@runtime_checkable
class ModelAggregator(Protocol):
    """What makes one model of those of the sites; NVFlare's class of that name is one."""

    def accept_model(self, model: FLModel) -> None:
        """Take a site's update; ``meta["site_name"]`` says whose it is. Its params may be kept."""

    def aggregate_model(self) -> FLModel:
        """Return the new model, or with ``ParamsType.DIFF`` what is added to the former one."""

    def reset_stats(self) -> None:
        """Forget what was accepted; called before each round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregating:
    """What aggregation is about: the model that was sent, the sites in order, the options."""

    model: TensorSet
    order: Sequence[str]
    limits: Limits | None
    options: MeanOptions
    framework: Framework


class AggregatedUpdates(HeldRound):
    """Holds the updates of a round, and hands them to an aggregator in the order of the cohort.

    They wait in the staging area, in memory and beyond it in a file; one at a time is made into
    arrays. How many of these are held then is the aggregator's choice. Tensors that are excluded
    keep the model's value and are not handed over.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(self, aggregator: ModelAggregator, setting: Aggregating) -> None:
        options = setting.options
        super().__init__(setting.model, order=setting.order, limits=setting.limits, options=options)
        self._aggregator = aggregator
        self._setting = setting

    def finish(self) -> TensorSet:
        """Refuse: an aggregator is told more than tensors.

        Raises:
            LocalProtocolError: always; ``aggregated`` takes the updates.
        """
        raise LocalProtocolError("an aggregator is taken by aggregated(updates)")

    def aggregated(self, updates: Sequence[Update], number: int) -> TensorSet:
        """Return the new model that the aggregator makes of these updates.

        Raises:
            ConfigError: it returns no model like the one that was sent.
            Exception: whatever the aggregator raises.
        """
        arrived = {update.site: update for update in updates}
        self._aggregator.reset_stats()
        for site in self._setting.order:
            if site in arrived:
                self._aggregator.accept_model(self._model_of(arrived[site], number))
                self._slots[site].release()
        try:
            return self._checked(self._aggregator.aggregate_model())
        except TrainingFailed as exc:
            name = type(self._aggregator).__name__
            wrong = ConfigError("aggregator", name, f"aggregate_model: {exc.problem}")
            note(wrong, place_of(self._aggregator.aggregate_model))
            raise wrong from exc

    def _model_of(self, update: Update, number: int) -> FLModel:
        held = self._slots[update.site].contribution
        names = {"site_name": update.site, "client_name": update.site}
        return FLModel(
            params_type=held.kind,
            params=SlotPool().take(self._part(held.source), self._setting.framework),
            metrics=dict(update.metrics),
            current_round=number,
            meta={**update.meta, **names},
        )

    def _part(self, source: TensorSource) -> TensorSet:
        """Return those tensors that are aggregated, in memory."""
        model, ignored = self._setting.model, self._area.gate.ignored
        tied = {n: f for n, f in model.aliases.items() if n not in ignored and f not in ignored}
        specs = [spec for spec in model.specs if spec.name not in ignored]
        views: dict[str, memoryview] = {}
        for spec in specs:
            if spec.name not in tied:
                data = bytearray()  # a chunk is valid until the next one is asked for
                for chunk in source.chunks(source.aliases.get(spec.name, spec.name)):
                    data += chunk
                views[spec.name] = memoryview(data)
        return TensorSet.from_views(specs, views, tied)

    def _checked(self, result: object) -> TensorSet:
        made = checked_model("aggregator", result)
        model, pool = self._setting.model, SlotPool()
        ignored = self._area.gate.ignored
        wanted = TensorSet([spec for spec in model.specs if spec.name not in ignored], {}, {})
        tensors = checked_tensors("aggregator", made, wanted, pool, detach=True)
        kept = {name: model[name] for name in ignored}
        tied = {n: f for n, f in tensors.aliases.items() if n not in ignored}
        whole = TensorSet.from_views(model.specs, {**tensors, **kept}, tied)
        check_finite(whole, "aggregator", ignored)
        return whole if made.params_type is not ParamsType.DIFF else self._added(whole)

    def _added(self, change: TensorSet) -> TensorSet:
        """Return the model plus a difference, in the arithmetic of every other mean."""
        options = MeanOptions(exclude=self._setting.options.exclude)
        with WeightedMean(self._setting.model, order=("aggregator",), options=options) as mean:
            sink = mean.stage("aggregator", 1.0, ParamsType.DIFF)
            sink.begin(change.specs, change.aliases)
            for name in change:
                if name not in change.aliases:
                    sink.adopt(name, change[name])
            sink.finish()
            mean.commit("aggregator")
            return mean.finish()
