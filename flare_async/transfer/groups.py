"""Sums by groups of sites: what relays that add do, done in one place, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from flare_async.errors import ConfigError
from flare_async.model import ParamsType
from flare_async.transfer.source import MemorySource
from flare_async.transfer.sums import Contribution, Sums
from flare_async.transfer.tensors import TensorSet

__all__ = ["GroupedSums", "Groups"]


class Groups:
    """Which sites are added together; ``order`` has each group's sites one after the other.

    A group stands where its first site stands in the cohort's order, and its sites keep theirs.
    Sites of groups that are not of the cohort are left out.

    Raises:
        ConfigError: a site is in two groups.
    """

    __slots__ = ("_group_of", "order")

    def __init__(self, order: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
        self._group_of: dict[str, int] = {}
        for number, group in enumerate(groups):
            for site in group:
                if site in self._group_of:
                    raise ConfigError("groups", site, "is in two groups, or twice in one")
                self._group_of[site] = number
        members: dict[int, list[str]] = {}
        for site in order:
            if site in self._group_of:
                members.setdefault(self._group_of[site], []).append(site)
        flat: list[str] = []
        for site in order:
            mine = self._group_of.get(site)
            flat += [site] if mine is None else members.pop(mine, [])
        self.order = tuple(flat)

    def of(self, site: str) -> int | None:
        """Return the number of a site's group, or None."""
        return self._group_of.get(site)


class GroupedSums:
    """Weighted sums in which each group's mean is added in place of its sites.

    ``new_sums`` makes the accumulators of the total, and those of a group while it is added.
    """

    def __init__(self, new_sums: Callable[[], Sums], groups: Groups) -> None:
        self._total = new_sums()
        self._new_sums = new_sums
        self._groups = groups
        self._open: tuple[int, Sums] | None = None

    @property
    def weight(self) -> float:
        """The total weight so far."""
        return self._total.weight + (0.0 if self._open is None else self._open[1].weight)

    def adding(self, contribution: Contribution) -> Iterator[None]:
        """Add one update, yielding after every chunk; sites come in the order of the groups.

        A partial sum is a group that somebody else has added already.
        """
        number = None if contribution.shares else self._groups.of(contribution.site)
        if number is None and self._open is None:  # the usual case: nobody is grouped
            return self._total.adding(contribution)
        return self._adding(number, contribution)

    def _adding(self, number: int | None, contribution: Contribution) -> Iterator[None]:
        if self._open is not None and self._open[0] != number:
            yield from self._closing()
        if number is None:
            yield from self._total.adding(contribution)
            return
        if self._open is None:
            self._open = (number, self._new_sums())
        yield from self._open[1].adding(contribution)

    def mean(self) -> TensorSet:
        """Return the new model and let go of the accumulators."""
        for _ in self._closing():
            pass
        return self._total.mean()

    def _closing(self) -> Iterator[None]:
        """Add the open group's mean to the total, yielding after every tensor or chunk."""
        if self._open is None:
            return
        (number, sums), self._open = self._open, None
        weight, views = sums.weight, dict[str, memoryview]()
        yield from sums.taking(views)
        source = MemorySource(sums.model_of(views))
        group = Contribution(f"group {number}", weight, ParamsType.FULL, source)
        yield from self._total.adding(group)
