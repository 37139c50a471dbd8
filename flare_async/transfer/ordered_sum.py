"""The updates of a cohort that wait for their turn, and the sum that they go into in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flare_async.errors import LocalProtocolError
from flare_async.transfer.cursor import Cursor
from flare_async.transfer.exact import ExactSums
from flare_async.transfer.groups import GroupedSums, Groups
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.sums import Contribution, Share, Sums, adds_in_place, as_plain
from flare_async.transfer.tensors import TensorSet

__all__ = ["OrderedSum", "Waiting"]


@dataclass(slots=True)
class Waiting:
    """An update, or a partial sum, that is staged; ``checked`` says that it may be admitted."""

    update: StagedUpdate
    contribution: Contribution
    checked: bool = False


class OrderedSum:
    """Adds what is committed, chunk by chunk, in the order of the cohort and its groups.

    A partial sum waits under the first of its sites; at the others' turn nothing is left to add.

    Raises:
        ConfigError: a site comes twice.
    """

    def __init__(
        self,
        model: TensorSet,
        order: Sequence[str],
        gate: MeanGate,
        groups: Sequence[Sequence[str]],
    ) -> None:
        plan, kinds = Groups(order, groups), gate.precisions
        self._model, self._kinds, self._order = model, kinds, plan.order
        self._begun = False
        self.cursor = Cursor(plan.order)
        self.waiting: dict[str, Waiting] = {}
        self.sites: list[tuple[str, float]] = []
        self._adding: tuple[Contribution, Iterator[None]] | None = None
        self._sums: GroupedSums | ExactSums
        if gate.fixed is None:
            self._sums = GroupedSums(lambda: Sums(model, kinds), plan)
        else:  # whole numbers do not care who was added to whom
            self._sums = ExactSums(model, kinds, gate.fixed)

    @property
    def weight(self) -> float:
        """The total weight so far."""
        return self._sums.weight

    @property
    def at(self) -> str:
        """The site that is added now, or nobody."""
        return "" if self._adding is None else self._adding[0].site

    def put(self, update: StagedUpdate, contribution: Contribution) -> None:
        """Let an update wait; a former one under the same site is discarded."""
        self.forget(contribution.site)
        self.waiting[contribution.site] = Waiting(update, contribution)

    def lend(self, site: str, name: str) -> memoryview | None:
        """Return memory for a tensor of the site with which the sum will begin, else None.

        It becomes the accumulator when that update is added. Until then nothing is in it but the
        update, so one that is discarded has touched nothing.
        """
        precision = self._kinds.get(name)
        if precision is None or self._begun or isinstance(self._sums, ExactSums):
            return None
        spec, unsettled = self._model.spec(name), self.cursor.open_sites()
        if not adds_in_place(spec, precision) or unsettled[:1] != [site]:
            return None
        for one in self._order:
            if one == site:
                break
            if one in self.waiting:  # admitted, and not yet added
                return None
        return np.empty(spec.nbytes, np.uint8).data

    def forget(self, site: str) -> None:
        """Discard what waits under a site, if anything does."""
        waiting = self.waiting.pop(site, None)
        if waiting is not None:
            waiting.update.discard()

    def forget_all(self) -> None:
        """Discard everything that waits, also what is being added."""
        self._adding = None
        for site in list(self.waiting):
            self.forget(site)

    def in_order(self, shares: Sequence[Share]) -> tuple[Share, ...]:
        """Return the shares of open sites in the order of the sum.

        Raises:
            LocalProtocolError: there are none, a site comes twice, is not of the cohort or settled.
        """
        by_site = {share.site: replace(share, weight=as_plain(share.weight)) for share in shares}
        if len(by_site) != len(shares):
            raise LocalProtocolError(f"a sum of {len(shares)} updates has {len(by_site)} sites")
        return tuple(by_site[site] for site in self.cursor.in_order(by_site))

    def admit(self, waiting: Waiting) -> None:
        """Settle the site, or all sites of a partial sum, of what has been checked.

        Raises:
            LocalProtocolError: one of them is settled already, or it does not wait any more.
        """
        first, shares = waiting.contribution.site, waiting.contribution.shares
        if self.waiting.get(first) is not waiting:
            raise LocalProtocolError(f"{first}: what was checked is gone")
        if not shares:
            self.cursor.commit(first)
            return
        for share in shares:
            self.cursor.require_open(share.site)
        for share in shares:
            if share.site != first:  # an update that came by itself as well would be added twice
                self.forget(share.site)
            self.cursor.commit(share.site)

    def step(self) -> bool:
        """Add one chunk; False says that the next site in order is not settled.

        Raises:
            TransferError: what waits cannot be read; the sum is spoiled.
        """
        while True:
            if self._adding is None:
                site = self.cursor.take()
                if site is None:
                    return False
                waiting = self.waiting.get(site)
                if waiting is None:  # it was in a partial sum
                    continue
                self._begun = True
                self._adding = (waiting.contribution, self._sums.adding(waiting.contribution))
            contribution, steps = self._adding
            try:
                next(steps)
            except StopIteration:
                self._adding = None
                shares = contribution.shares or (contribution,)
                self.sites += [(share.site, share.weight) for share in shares]
                self.forget(contribution.site)
            else:
                return True

    def mean(self) -> TensorSet:
        """Return the mean and let go of the accumulators."""
        return self._sums.mean()

    def partial(self) -> TensorSet:
        """Return the mean, or the whole numbers of an exact sum, and let go of the accumulators."""
        sums = self._sums
        return sums.partial() if isinstance(sums, ExactSums) else sums.mean()
