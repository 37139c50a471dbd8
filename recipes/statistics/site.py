"""A site's part of federated statistics: one task a step, answered by the user's generator.

This module holds functions only: a worker process loads it by its path, as it does a job file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from flare_async.jobs.site import Plain, Site
from flare_async.model import FLModel
from flare_async.recipes.statistics.calls import Calls
from flare_async.recipes.statistics.cleansers import Privacy
from flare_async.recipes.statistics.configs import StatisticConfigs, Wanted, named
from flare_async.recipes.statistics.generator import Statistics
from flare_async.recipes.statistics.plan import Cell, Common, Plan, features_to_bytes
from flare_async.recipes.statistics.remembered import asked_before, noise
from flare_async.recipes.statistics.source import Kind, kind_of, made
from flare_async.recipes.statistics.tables import CellReport, Reports, Tables
from flare_async.recipes.statistics.values import NUMERIC, BinRange

__all__ = ["FEATURES", "answer", "answering"]

FEATURES = "features"  # the tensor in which a site tells them
GENERATOR = "statistics_generator"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one task is about."""

    site: Site
    calls: Calls
    wanted: Wanted
    privacy: Privacy


def answering(
    generator: Statistics, configs: StatisticConfigs, privacy: Privacy
) -> Callable[[FLModel, Site], FLModel]:
    """Return the function that answers a site's tasks with a generator like the given one.

    Raises:
        ConfigError: it is no generator.
    """
    kind = kind_of(generator)
    args, keywords = generator.made_with
    return partial(
        answer,
        kind=kind,
        made_with=list(args),
        keywords=keywords,
        configs=configs if isinstance(configs, Mapping) else named(configs),
        privacy=asdict(privacy),
    )


def answer(
    model: FLModel,
    site: Site,
    *,
    kind: Kind,
    made_with: Sequence[object],
    keywords: Mapping[str, object],
    configs: Mapping[str, Plain],
    privacy: Mapping[str, bool | float],
) -> FLModel:
    """Answer one task: which features there are at first, then the statistics of each step.

    Raises:
        RuntimeError, TypeError: the generator raised, or returned what it should not.
        TensorFormatError: the server's plan cannot be read, or is another one than before.
    """
    generator = generator_of(site, kind, made_with, keywords)
    asked = Asked(site, Calls(generator), Wanted.of(configs), Privacy(**privacy))  # type: ignore[arg-type]
    params = model.params or {}
    if "plan" in params:
        result = told(asked, asked_before(site, Plan.from_bytes(params["plan"])))
    else:
        pre_run(asked)
        room = np.asarray(params[FEATURES]).size
        result = FLModel(params={FEATURES: features_to_bytes(asked.calls.features(), room)})
    if site.round_number == site.total_rounds - 1:
        asked.calls.run("finalize", site)
        site.state.pop(GENERATOR)
    return result


def generator_of(
    site: Site, kind: Kind, args: Sequence[object], keywords: Mapping[str, object]
) -> Statistics:
    """Return the site's own generator, made and initialised when it is first needed."""
    known = site.state.get(GENERATOR)
    if isinstance(known, Statistics):
        return known
    generator = made(kind, args, keywords)
    Calls(generator).run("initialize", site)
    site.state[GENERATOR] = generator
    return generator


def pre_run(asked: Asked) -> None:
    """Tell the generator what will be asked for."""
    histograms = asked.wanted.histograms
    counts = {feature: bins.count for feature, bins in histograms.items()}
    ranges = {feature: bins.range for feature, bins in histograms.items() if bins.range}
    asked.calls.run("pre_run", sorted(asked.wanted.names), counts, ranges)


def told(asked: Asked, plan: Plan) -> FLModel:
    """Return the answer to one step; its metrics count what was told and what privacy withheld."""
    own = own_cells(asked).intersection(plan.cells)
    reports: Reports = {}
    for cell, common in zip(plan.cells, plan.common, strict=True):
        report = cleansed(asked, cell, plan.step, common) if cell in own else None
        if report is not None:
            reports[cell] = report
    tables = Tables(plan, asked.wanted, asked.privacy.max_centroids)
    kept_back = len(own) - len(reports)
    said: dict[str, object] = {"features_told": len(reports), "features_withheld": kept_back}
    return FLModel(params=dict(tables.filled(reports)), metrics=said)


def own_cells(asked: Asked) -> set[Cell]:
    """Return the cells that the site has."""
    found = asked.calls.features().items()
    return {Cell(name, one[0]) for name, of in found for one in of if one[1] in NUMERIC}


def cleansed(asked: Asked, cell: Cell, step: int, common: Common) -> CellReport | None:
    """Return one cell's report after all cleansers; None where nothing may leave."""
    count = asked.calls.count("count", cell)
    if count < max(1, asked.privacy.min_count):
        return None  # the cleanser would say the same after all the work
    report: CellReport | None
    report = first(asked, cell, count) if step == 1 else second(asked, cell, common)
    draw = noise(asked.site, cell, seeded=asked.privacy.seeded)
    for cleanser in asked.privacy.cleansers(draw):
        report = None if report is None else cleanser.apply(report, count)
    return report


def first(asked: Asked, cell: Cell, count: int) -> CellReport:
    """Return what needs nothing of other sites."""
    methods = {"sum": "sum", "mean": "mean", "stddev": "stddev", "min": "min_value"}
    methods["max"] = "max_value"
    values = {"count": float(count)}
    values["failure_count"] = float(asked.calls.count("failure_count", cell))
    bins = asked.wanted.bins(cell.feature)
    ranged = bins is not None and bins.range is None
    for name in asked.wanted.first[2:]:
        if name in {"min", "max"} and not ranged and name not in asked.wanted.names:
            continue
        number = asked.calls.number(methods[name], cell)
        if number is not None:
            values[name] = number
    percents = asked.wanted.quantiles(cell.feature)
    digest = asked.calls.digest(cell, percents) if percents else None
    return CellReport(values, digest=digest)


def second(asked: Asked, cell: Cell, common: Common) -> CellReport:
    """Return what is made with the mean and the range of all sites."""
    values = {}
    if asked.wanted.second and common.mean is not None and common.count > 1:
        args = (common.mean, common.count)
        number = asked.calls.number("variance_with_mean", cell, *args)
        if number is not None:
            values["var"] = number
    bins = asked.wanted.bins(cell.feature)
    if bins is None:
        return CellReport(values)
    ends = bins.range
    if ends is None and common.low is not None and common.high is not None:
        ends = BinRange(common.low, common.high)
    if ends is None:
        return CellReport(values)
    counts = asked.calls.histogram(cell, bins, ends)
    return CellReport(values, histogram=counts)
