"""What a user writes: the statistics of one site's data, a feature at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from flare_async.jobs.site import Site
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.values import BinRange, Feature, Histogram

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Statistics"]


class Statistics(ABC):
    """The base of generators. Every site has an instance of its own, made as the given one was.

    ``features`` and ``count`` are needed always, every other method for the statistic that it is
    named after. A value that is missing or cannot be read is a failure: it is counted by
    ``failure_count`` and by nothing else. None or NaN in place of a number says that there is none.
    """

    made_with: tuple[tuple[object, ...], dict[str, object]]

    def __new__(cls, *args: Any, **keywords: Any) -> Self:  # noqa: ANN401 - as the subclass has it
        """Remember the arguments, with which each site makes its own instance."""
        made = super().__new__(cls)
        made.made_with = (args, keywords)
        return made

    def initialize(self, site: Site) -> None:  # noqa: B027 - optional
        """Load the site's data; called once, before anything else."""

    def pre_run(  # noqa: B027 - optional
        self,
        statistics: Sequence[str],
        num_of_bins: Mapping[str, int],
        bin_ranges: Mapping[str, BinRange],
    ) -> Mapping[str, object] | None:
        """Look at what will be asked for; bins and ranges by feature, "*" is any other."""

    @abstractmethod
    def features(self) -> Mapping[str, Sequence[Feature]]:
        """Return the features of each data set."""

    @abstractmethod
    def count(self, dataset_name: str, feature_name: str) -> int:
        """Return how many values there are, without failures."""

    def failure_count(self, dataset_name: str, feature_name: str) -> int:
        """Return how many rows have no usable value."""
        return 0

    def sum(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the sum of the values."""
        raise NotImplementedError

    def mean(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the site's own mean."""
        raise NotImplementedError

    def stddev(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the site's own standard deviation; as pandas has it, with ``count - 1``."""
        raise NotImplementedError

    def variance_with_mean(
        self, dataset_name: str, feature_name: str, global_mean: float, global_count: float
    ) -> float | None:
        """Return the sum of ``(value - global_mean) ** 2``, divided by ``global_count - 1``."""
        raise NotImplementedError

    def histogram(
        self,
        dataset_name: str,
        feature_name: str,
        num_of_bins: int,
        global_min_value: float,
        global_max_value: float,
    ) -> Histogram:
        """Return that many bins of equal width; values outside of the range are left out."""
        raise NotImplementedError

    def max_value(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the largest value; noise is added before it leaves the site."""
        raise NotImplementedError

    def min_value(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the smallest value; noise is added before it leaves the site."""
        raise NotImplementedError

    def quantiles(self, dataset_name: str, feature_name: str, percents: Sequence[float]) -> Digest:
        """Return the values' digest, from which the ``percents`` (0 to 1) are estimated."""
        raise NotImplementedError

    def finalize(self, site: Site) -> None:  # noqa: B027 - optional
        """Let go of the data after the site's last task; not called where the run fails before."""
