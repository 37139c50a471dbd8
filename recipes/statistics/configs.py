"""Which statistics are wanted: ``statistic_configs``, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from flare_async.errors import ConfigError
from flare_async.jobs.site import Plain
from flare_async.recipes.statistics.values import BinRange, StatisticConfig

__all__ = ["METHODS", "STATISTICS", "Bins", "StatisticConfigs", "Wanted"]

StatisticConfigs: TypeAlias = Mapping[str, Plain] | Sequence[StatisticConfig]

STATISTICS: Final = (
    *("count", "failure_count", "sum", "mean", "var", "stddev", "min", "max"),
    *("histogram", "quantile"),
)
METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "sum": ("sum",),
    "mean": ("sum", "mean"),
    "var": ("sum", "stddev", "variance_with_mean"),
    "stddev": ("sum", "stddev", "variance_with_mean"),
    "min": ("min_value",),
    "max": ("max_value",),
    "histogram": ("histogram",),
    "quantile": ("quantiles",),
}
MOST_BINS: Final = 10_000
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Bins:
    """How many bins a histogram has, and its range where the configuration says one."""

    count: int
    range: BinRange | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The statistics by name; bins and percents by feature, "*" is any other feature."""

    names: frozenset[str]
    histograms: Mapping[str, Bins]
    percents: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, configs: StatisticConfigs) -> Wanted:
        """Return what a configuration says.

        Raises:
            ConfigError: it is empty, names no statistic of ours, or has unusable options.
        """
        given = configs if isinstance(configs, Mapping) else named(configs)
        unknown = sorted(set(given) - set(STATISTICS), key=str)
        if unknown or not given:
            hint = f"use some of {', '.join(STATISTICS)}"
            raise ConfigError("statistic_configs", unknown[:5], "no such statistics", hint)
        histograms = options("histogram", given.get("histogram"), "histogram" in given)
        percents = options("quantile", given.get("quantile"), "quantile" in given)
        return cls(
            frozenset(given),
            {feature: bins_of(feature, value) for feature, value in histograms.items()},
            {feature: percents_of(feature, value) for feature, value in percents.items()},
        )

    def bins(self, feature: str) -> Bins | None:
        """Return the bins of a feature; None where no histogram of it is wanted."""
        return self.histograms.get(feature, self.histograms.get(ANY))

    def quantiles(self, feature: str) -> tuple[float, ...]:
        """Return the percents of a feature, as shares of 1."""
        return self.percents.get(feature, self.percents.get(ANY, ()))

    @property
    def first(self) -> tuple[str, ...]:
        """The numbers that sites are asked for at first: no site needs another's for them."""
        found = ["count", "failure_count"]
        spread = self.names & {"var", "stddev"}
        if spread or self.names & {"sum", "mean"}:
            found.append("sum")
        found += ["mean"] if "mean" in self.names else []
        found += ["stddev"] if spread else []
        ranged = any(bins.range is None for bins in self.histograms.values())
        found += [name for name in ("min", "max") if ranged or name in self.names]
        return tuple(found)

    @property
    def second(self) -> tuple[str, ...]:
        """The numbers that need the global mean."""
        return ("var",) if self.names & {"var", "stddev"} else ()

    @property
    def needs_second(self) -> bool:
        """Whether anything is made of what all sites said at first."""
        return bool(self.second or self.histograms)

    @property
    def methods(self) -> dict[str, str]:
        """The methods that a generator must have, and a statistic that needs each."""
        found = {
            method: name
            for name in STATISTICS
            if name in self.names
            for method in METHODS.get(name, ())
        }
        ends = {f"{name}_value": "histogram" for name in ("min", "max") if name in self.first}
        return {**ends, **found}


def named(configs: object) -> dict[str, Plain]:
    """Return configurations by their names. Raises ConfigError."""
    found: dict[str, Plain] = {}
    for one in configs if isinstance(configs, list | tuple) else [configs]:
        if not isinstance(one, StatisticConfig):
            raise ConfigError("statistic_configs", configs, "a dict of statistics is needed")
        found[one.name] = one.config
    return found


def options(name: str, value: object, wanted: bool) -> Mapping[str, object]:
    """Return the options of a statistic by feature. Raises ConfigError."""
    if not wanted:
        return {}
    if (
        not isinstance(value, Mapping)
        or not value
        or not all(isinstance(key, str) for key in value)
    ):
        example = {"histogram": '{"*": {"bins": 20}}', "quantile": '{"*": [0.1, 0.5, 0.9]}'}[name]
        hint = f"for instance {example}"
        raise ConfigError(f"statistic_configs.{name}", value, "options by feature needed", hint)
    return value


def bins_of(feature: str, value: object) -> Bins:
    """Return the bins that ``{"bins": 20, "range": [0, 100]}`` says. Raises ConfigError."""
    field = f"statistic_configs.histogram.{feature}"
    if not isinstance(value, Mapping) or not set(value) <= {"bins", "range"}:
        raise ConfigError(field, value, "{'bins': 20, 'range': [0, 100]} is needed")
    count = value.get("bins")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_BINS:
        raise ConfigError(f"{field}.bins", count, f"an integer from 1 to {MOST_BINS} is needed")
    limits = value.get("range")
    if limits is None:
        return Bins(count)
    ends = numbers(limits)
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ConfigError(f"{field}.range", limits, "two numbers in ascending order are needed")
    return Bins(count, BinRange(ends[0], ends[1]))


def percents_of(feature: str, value: object) -> tuple[float, ...]:
    """Return what ``[0.1, 0.5]`` says. Raises ConfigError."""
    found = numbers(value)
    if not found or not all(0 <= share <= 1 for share in found):
        field = f"statistic_configs.quantile.{feature}"
        raise ConfigError(field, value, "a list of numbers from 0 to 1 is needed")
    return tuple(found)


def numbers(value: object) -> list[float]:
    """Return a list's finite numbers; an empty list where it is no such list."""
    if not isinstance(value, list | tuple):
        return []
    good = [one for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
    finite = [float(one) for one in good if math.isfinite(one)]
    return finite if len(finite) == len(value) else []
