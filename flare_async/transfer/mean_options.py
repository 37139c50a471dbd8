"""How a weighted mean is taken, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flare_async.errors import ConfigError
from flare_async.model import ParamsType

__all__ = ["MeanOptions", "MeanStatistics", "SumRules"]

MOST_BITS = 60


@dataclass(frozen=True, slots=True)
class SumRules:
    """What two sides must agree on to add the same updates to the same bits.

    ``scale_bits`` is None unless the sum is exact; ``sites`` is how many it may have in all.
    """

    accumulator: str | None
    exclude: str | None
    max_norm: float | None
    scale_bits: int | None
    sites: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOptions:
    """How a weighted mean is taken.

    ``accumulator`` is None (float64 below 64 MB of model, float32 above), float32 or float64;
    ``exclude`` is a regular expression that is searched in names: tensors that have it keep the
    model's value; ``spool_folder`` is where updates beyond ``staging_bytes`` go. ``max_norm``
    refuses an update with a tensor whose Euclidean norm is larger, whether model or diff.

    ``groups`` of sites are added group by group: first the mean of a group in the model's own
    types, then that mean with the group's weight, at the place of the group's first site.

    ``exact`` adds whole numbers instead, in steps of ``2**-scale_bits`` (of 2**-8 at most for
    tensors of integers): the sum has the same bits in any order and any grouping. An update that
    could make the sum of ``exact_sites`` (default: all of the cohort) too large is refused.

    Raises:
        ConfigError: ``scale_bits`` or ``exact_sites`` is out of range, or ``exact`` is no truth
            value or has an ``accumulator``.
    """

    accumulator: str | None = None
    params_type: ParamsType = ParamsType.FULL
    exclude: str | None = None
    spool_folder: Path | None = None
    max_norm: float | None = None
    groups: Sequence[Sequence[str]] = ()
    exact: bool = False
    scale_bits: int = 32
    exact_sites: int | None = None

    def __post_init__(self) -> None:
        if type(self.scale_bits) is not int or not 0 <= self.scale_bits <= MOST_BITS:
            problem = f"a whole number from 0 to {MOST_BITS} is needed"
            raise ConfigError("scale_bits", self.scale_bits, problem)
        if not isinstance(self.exact, bool):
            raise ConfigError("exact", self.exact, "True or False is needed")
        sites = self.exact_sites
        if sites is not None and (type(sites) is not int or sites < 1):
            raise ConfigError("exact_sites", sites, "a whole number of at least 1 is needed")
        if self.exact and self.accumulator is not None:
            problem = "an exact sum has accumulators of int64"
            raise ConfigError("accumulator", self.accumulator, problem, "leave it out")

    @classmethod
    def of(cls, rules: SumRules, spool_folder: Path | None = None) -> MeanOptions:
        """Return the options of whoever adds by the same rules.

        Raises:
            ConfigError: the rules cannot be.
        """
        bits = rules.scale_bits
        return cls(
            accumulator=rules.accumulator,
            exclude=rules.exclude,
            spool_folder=spool_folder,
            max_norm=rules.max_norm,
            exact=bits is not None,
            scale_bits=32 if bits is None else bits,
            exact_sites=rules.sites,
        )

    def rules(self, sites: int) -> SumRules:
        """Return what another side needs to add some of ``sites``."""
        bits = self.scale_bits if self.exact else None
        most = self.exact_sites or sites
        return SumRules(self.accumulator, self.exclude, self.max_norm, bits, most)


@dataclass(frozen=True, slots=True)
class MeanStatistics:
    """What a mean has taken in: sites in the order of the sum, and bytes of staging.

    ``staged_bytes`` is the most memory that waiting updates held at once.
    """

    sites: tuple[tuple[str, float], ...]
    weight: float
    staged_bytes: int
    spilled_bytes: int
    referenced_bytes: int
