"""The weighted mean of a cohort's updates: same bits whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flare_async.errors import LocalProtocolError, TransferError, UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.admission import Admission
from flare_async.transfer.cursor import Cursor
from flare_async.transfer.groups import GroupedSums, Groups
from flare_async.transfer.norm import NormLimit
from flare_async.transfer.precision import excluded_names, precisions
from flare_async.transfer.staging import StagedUpdate, StagingArea
from flare_async.transfer.sums import Contribution, Sums
from flare_async.transfer.tensors import TensorSet

__all__ = ["MeanOptions", "MeanStatistics", "WeightedMean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOptions:
    """How a weighted mean is taken.

    ``accumulator`` is None (float64 below 64 MB of model, float32 above), float32 or float64;
    ``exclude`` is a regular expression that is searched in names: tensors that have it keep the
    model's value; ``spool_folder`` is where updates beyond ``staging_bytes`` go. ``max_norm``
    refuses an update with a tensor whose Euclidean norm is larger, whether model or diff.

    ``groups`` of sites are added group by group: first the mean of a group in the model's own
    types, then that mean with the group's weight, at the place of the group's first site.
    """

    accumulator: str | None = None
    params_type: ParamsType = ParamsType.FULL
    exclude: str | None = None
    spool_folder: Path | None = None
    max_norm: float | None = None
    groups: Sequence[Sequence[str]] = ()


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


class WeightedMean:
    """Sums updates in the order of the cohort and divides by their weight.

    Memory is one accumulator of the model plus what is staged. ``commit`` does the arithmetic
    that has become possible at once; ``committing`` does the same in steps of a chunk. An update
    that is DIFF adds its mean to the model.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(
        self,
        model: TensorSet,
        *,
        order: Sequence[str],
        limits: Limits | None = None,
        options: MeanOptions | None = None,
    ) -> None:
        self._options = MeanOptions() if options is None else options
        budget = (Limits() if limits is None else limits).staging_bytes
        excluded = excluded_names(model, self._options.exclude)
        self._admission = Admission(model.specs, aliases=model.aliases, ignored=excluded)
        most = self._options.max_norm
        self._norm = None if most is None else NormLimit(most)
        self._excluded = excluded
        self._area = StagingArea(budget, folder=self._options.spool_folder)
        groups = Groups(order, self._options.groups)
        self._cursor = Cursor(groups.order)
        kinds = precisions(model, self._options.accumulator, excluded)
        self._sums = GroupedSums(lambda: Sums(model, kinds), groups)
        self._staged: dict[str, tuple[StagedUpdate, float, ParamsType]] = {}
        self._adding: tuple[Contribution, Iterator[None]] | None = None
        self._sites: list[tuple[str, float]] = []
        self.nbytes = model.nbytes
        self._ended: str | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def statistics(self) -> MeanStatistics:
        """What was taken in so far."""
        area = self._area
        return MeanStatistics(
            tuple(self._sites),
            self._sums.weight,
            area.peak_bytes,
            area.spilled_bytes,
            area.referenced_bytes,
        )

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; a former one of the same site is discarded.

        ``kind`` defaults to the options' ``params_type``. The sink refuses tensors that are not
        the model's as soon as it is told of them.

        Raises:
            LocalProtocolError: the site is not of the cohort or settled, or the mean has ended.
        """
        self._expect_running()
        self._cursor.require_open(site)
        self._forget(site)
        update = StagedUpdate(self._area, lambda specs: self._admission.check_specs(site, specs))
        self._staged[site] = (update, weight, kind or self._options.params_type)
        return update

    def commit(self, site: str) -> None:
        """Admit a whole update; it enters the sum when all sites before it are settled.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded and touched nothing.
            TransferError: it is not whole, or the spool failed.
            LocalProtocolError: nothing is staged, the site is settled, or the mean has ended.
        """
        for _ in self.committing(site):
            pass

    def committing(self, site: str) -> Iterator[None]:
        """Do what ``commit`` does, yielding after every chunk of a MiB.

        Leaving it early loses nothing: before the update is admitted, the site stays open; after
        it, the next ``commit`` or ``finish`` goes on where this one stopped.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded and touched nothing.
            TransferError: it is not whole, or the spool failed.
            LocalProtocolError: nothing is staged, the site is settled, or the mean has ended.
        """
        yield from self.admitting(site)
        yield from self.summing()

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after every chunk of a MiB; ``summing`` then adds it.

        When it returns, the update cannot be discarded any more.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded and touched nothing.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, the site is settled, or the mean has ended.
        """
        self._expect_running()
        self._cursor.require_open(site)
        if site not in self._staged:
            raise LocalProtocolError(f"{site}: nothing is staged")
        staged = self._staged[site]
        update, weight, _ = staged
        if not update.whole:
            raise TransferError(f"{site}: its update is not whole")
        try:
            yield from self._admission.checking(site, update, weight)
            if self._norm is not None:
                yield from self._norm.checking(site, update, self._excluded)
        except UpdateRefused:
            if self._staged.get(site) is staged:
                self.discard(site)
            raise
        if self._staged.get(site, staged) is not staged:
            raise LocalProtocolError(f"{site}: was staged again while it was checked")
        self._cursor.commit(site)

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Sums that become possible are left to ``summing``, the next ``commit`` or ``finish``.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """
        self._cursor.discard(site)
        self._forget(site)

    def summing(self) -> Iterator[None]:
        """Add what can be added by now, yielding after every chunk of a MiB.

        Several tasks may do so at once, each takes the next chunk; nothing is left to add when
        another one has finished the mean.

        Raises:
            TransferError: the spool failed.
            LocalProtocolError: the mean has failed.
        """
        while self._step():
            yield

    def finish(self) -> TensorSet:
        """Return the new model; sites that are not settled count as discarded.

        Raises:
            LocalProtocolError: no update was committed, or the mean has ended.
            TransferError: the spool failed.
        """
        self._expect_running()
        for site in self._cursor.open_sites():
            self.discard(site)
        for _ in self.summing():
            pass
        if not self._sites:
            raise LocalProtocolError("a mean of no updates: none was committed")
        result = self._sums.mean()
        self.close()
        return result

    def close(self) -> None:
        """End without a result, or after one; harmless more than once."""
        self._ended = self._ended or "the mean has ended"
        self._closed = True
        self._adding = None
        for site in list(self._staged):
            self._forget(site)
        self._area.close()

    def _step(self) -> bool:
        """Add one chunk; False says that the next site in order is not settled."""
        if self._closed:
            return False
        self._expect_running()
        if self._adding is None:
            site = self._cursor.take()
            if site is None:
                return False
            update, weight, kind = self._staged[site]
            contribution = Contribution(site, weight, kind, update)
            self._adding = (contribution, self._sums.adding(contribution))
        contribution, steps = self._adding
        try:
            next(steps)
        except StopIteration:
            self._adding = None
            self._sites.append((contribution.site, contribution.weight))
            self._forget(contribution.site)
        except Exception as exc:
            # Part of an update is in the sum and cannot be taken out again.
            self._ended = f"the mean has failed at {contribution.site}: {exc}"
            raise
        return True

    def _forget(self, site: str) -> None:
        staged = self._staged.pop(site, None)
        if staged is not None:
            staged[0].discard()

    def _expect_running(self) -> None:
        if self._ended is not None:
            raise LocalProtocolError(self._ended)
