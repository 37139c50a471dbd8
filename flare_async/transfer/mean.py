"""The weighted mean of a cohort's updates: same bits whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Self

from flare_async.errors import LocalProtocolError, TransferError, UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.mean_look import Looks
from flare_async.transfer.mean_options import MeanOptions, MeanStatistics, SumRules
from flare_async.transfer.ordered_sum import OrderedSum, Waiting
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.staging_area import StagingArea
from flare_async.transfer.sums import Contribution, Share, as_plain
from flare_async.transfer.tensors import TensorSet

__all__ = ["MeanOptions", "MeanStatistics", "WeightedMean"]

LabelledCheck = Callable[[str, Sequence[TensorSpec]], None]


class WeightedMean:
    """Sums updates in the order of the cohort and divides by their weight.

    Memory is one accumulator of the model plus what is staged. ``commit`` adds at once what can be
    added, ``committing`` in steps of a chunk. The mean of DIFF updates is added to the model.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    gate_type: ClassVar[type[MeanGate]] = MeanGate

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
        self._model = model
        self._order = tuple(order)
        self._gate = self.gate_type(model, self._options, len(self._order))
        self._area = StagingArea(budget, folder=self._options.spool_folder)
        self._sum = OrderedSum(model, self._order, self._gate, self._options.groups)
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
        taken, area = self._sum, self._area
        nbytes = (area.peak_bytes, area.spilled_bytes, area.referenced_bytes)
        return MeanStatistics(tuple(taken.sites), taken.weight, *nbytes)

    def group(self, groups: Sequence[Sequence[str]]) -> SumRules | None:
        """Add by these groups, each of which may come as a partial sum.

        None says that the options have groups of their own: updates must come one by one.

        Raises:
            LocalProtocolError: the sum has begun, or the mean has ended.
            ConfigError: a site is in two groups.
        """
        self._expect_running()
        if self._options.groups:
            return None
        if self._sum.waiting or not self._sum.cursor.untouched:
            raise LocalProtocolError("a mean that has begun cannot be grouped")
        self._sum = OrderedSum(self._model, self._order, self._gate, groups)
        return self._options.rules(len(self._order))

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; a former one of the same site is discarded.

        ``kind`` defaults to the options' ``params_type``. The sink refuses tensors that are not
        the model's as soon as it is told of them.

        Raises:
            LocalProtocolError: the site is not of the cohort or settled, or the mean has ended.
        """
        self._expect_running()
        self._sum.cursor.require_open(site)
        kind = kind or self._options.params_type
        update = self._new_update(site, site, self._gate.check_specs, self._gate.looks(kind))
        self._sum.put(update, Contribution(site, as_plain(weight), kind, update))
        return update

    def stage_partial(self, shares: Sequence[Share]) -> StagedUpdate:
        """Return the sink for the partial sum of some sites, which is admitted whole or not at all.

        Raises:
            LocalProtocolError: there is none, one is not of the cohort or settled, or the mean has
                ended.
        """
        self._expect_running()
        ordered = self._sum.in_order(shares)
        site = ordered[0].site
        label = f"the sum of {len(ordered)} sites from {site} on"
        looks = None if self._options.exact else self._gate.looks(ParamsType.FULL)
        update = self._new_update(site, label, self._gate.check_partial_specs, looks)
        weight = 0.0
        for share in ordered:  # one by one, as a group's sum adds them
            weight += share.weight
        self._sum.put(update, Contribution(site, weight, ParamsType.FULL, update, ordered))
        return update

    def commit(self, site: str) -> None:
        """Admit a whole update; it enters the sum when all sites before it are settled.

        Raises as ``checking``, and TransferError where the spool failed.
        """
        for _ in self.committing(site):
            pass

    def committing(self, site: str) -> Iterator[None]:
        """Do what ``commit`` does, yielding after every chunk of a MiB; raises as it does.

        Leaving it early loses nothing: before the update is admitted, the site stays open; after
        it, the next ``commit`` or ``finish`` goes on where this one stopped.
        """
        yield from self.admitting(site)
        yield from self.summing()

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after chunks; ``summing`` adds it. Raises as ``checking``.

        When it returns, the update cannot be discarded any more.
        """
        yield from self.checking(site)
        self.accept(site)

    def checking(self, site: str) -> Iterator[None]:
        """Check a whole update, yielding after every chunk, without admitting it yet.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded and touched nothing.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, the site is settled, or the mean has ended.
        """
        self._expect_running()
        self._sum.cursor.require_open(site)
        staged = self._whole(site)
        if staged.contribution.shares:
            raise LocalProtocolError(f"{site}: a sum of several sites is staged")
        yield from self._checking(staged, self.discard)

    def accept(self, site: str) -> None:
        """Admit an update that ``checking`` has passed; it cannot be discarded any more.

        Raises:
            LocalProtocolError: the site is settled already, or not of the cohort, or nothing of it
                has passed.
        """
        staged = self._sum.waiting.get(site)
        if staged is None or not staged.checked or staged.contribution.shares:
            self._sum.cursor.require_open(site)
            raise LocalProtocolError(f"{site}: no update of it was checked")
        self._sum.admit(staged)

    def admitting_partial(self, shares: Sequence[Share]) -> Iterator[None]:
        """Admit a whole partial sum, yielding after every chunk: all of its sites at once.

        Raises:
            UpdateRefused: it is not admissible; it is forgotten and its sites stay open.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, one of the sites is settled already, or the mean
                has ended.
        """
        ordered = self._sum.in_order(shares)
        site = ordered[0].site
        staged = self._whole(site)
        if staged.contribution.shares != ordered:
            raise LocalProtocolError(f"{site}: another sum is staged")
        yield from self._checking(staged, self._sum.forget)
        self._sum.admit(staged)

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Sums that become possible are left to ``summing``, the next ``commit`` or ``finish``.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """
        self._sum.cursor.discard(site)
        self._sum.forget(site)

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
        self._end()
        result = self._sum.mean()
        self.close()
        return result

    def partial(self) -> TensorSet:
        """Return what ``stage_partial`` of another mean with the same rules takes.

        That is the mean itself, or the int64 sums of an exact one. Raises as ``finish`` does.
        """
        self._end()
        result = self._sum.partial()
        self.close()
        return result

    def close(self) -> None:
        """End without a result, or after one; harmless more than once."""
        self._ended = self._ended or "the mean has ended"
        self._closed = True
        self._sum.forget_all()
        self._area.close()

    def _new_update(
        self, site: str, label: str, check: LabelledCheck, looks: Looks | None
    ) -> StagedUpdate:
        return StagedUpdate(
            self._area,
            lambda specs: check(label, specs),
            looks=looks,
            lend=lambda name: self._sum.lend(site, name),
        )

    def _checking(self, staged: Waiting, refuse: Callable[[str], None]) -> Iterator[None]:
        site, waiting = staged.contribution.site, self._sum.waiting
        try:
            yield from self._gate.checking(staged.contribution)
        except UpdateRefused:
            if waiting.get(site) is staged:
                refuse(site)
            raise
        if waiting.get(site, staged) is not staged:
            raise LocalProtocolError(f"{site}: was staged again while it was checked")
        staged.checked = True

    def _whole(self, site: str) -> Waiting:
        self._expect_running()
        if site not in self._sum.waiting:
            raise LocalProtocolError(f"{site}: nothing is staged")
        if not self._sum.waiting[site].update.whole:
            raise TransferError(f"{site}: its update is not whole")
        return self._sum.waiting[site]

    def _end(self) -> None:
        """Settle what is open and add what is admitted."""
        self._expect_running()
        for site in self._sum.cursor.open_sites():
            self.discard(site)
        for _ in self.summing():
            pass
        if not self._sum.sites:
            raise LocalProtocolError("a mean of no updates: none was committed")

    def _step(self) -> bool:
        """Add one chunk; False says that the next site in order is not settled."""
        if self._closed:
            return False
        if self._ended is not None:
            self._expect_running()
        try:
            return self._sum.step()
        except Exception as exc:
            # Part of an update is in the sum and cannot be taken out again.
            self._ended = f"the mean has failed at {self._sum.at}: {exc}"
            raise

    def _expect_running(self) -> None:
        if self._ended is not None:
            raise LocalProtocolError(self._ended)
