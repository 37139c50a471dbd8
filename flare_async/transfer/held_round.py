"""The updates of a round, each held until all of them are there, in memory or the spool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self

from flare_async.errors import LocalProtocolError, UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.cursor import Cursor
from flare_async.transfer.held import HeldArea, HeldUpdate
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.sums import Contribution
from flare_async.transfer.tensors import TensorSet

__all__ = ["HeldRound"]


class HeldRound(ABC):
    """Takes updates of the sites of ``order`` as they come, and adds nothing.

    They are admitted like those of a weighted mean and wait in the staging area. What becomes of
    them is ``finish``'s, which whoever inherits it gives; ``held`` are then those to be taken.

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
        self._model = model
        self._options = MeanOptions() if options is None else options
        self._cursor = Cursor(order)
        self._order = tuple(order)
        self._area = HeldArea(model, limits or Limits(), self._options)
        self._slots: dict[str, HeldUpdate] = {}
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def staged_bytes(self) -> tuple[int, int, int]:
        """The most memory that updates held, and their bytes in the spool and by reference."""
        area = self._area.area
        return area.peak_bytes, area.spilled_bytes, area.referenced_bytes

    @property
    def held(self) -> tuple[Contribution, ...]:
        """The admitted updates, in the order of the cohort."""
        slots = (self._slots.get(site) for site in self._order)
        return tuple(slot.contribution for slot in slots if slot is not None and slot.admitted)

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; a former one of the same site is discarded.

        Raises:
            LocalProtocolError: the site is not of the cohort or settled, or this has ended.
        """
        self._expect_running()
        self._cursor.require_open(site)
        slot = self._slots.setdefault(site, self._area.slot())
        return slot.stage(site, weight, kind or self._options.params_type)

    def commit(self, site: str) -> None:
        """Admit a whole update; raises as ``admitting``."""
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after chunks.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded.
            TransferError: it is not whole, or the spool failed.
            LocalProtocolError: nothing is staged, the site is settled, or this has ended.
        """
        self._expect_running()
        self._cursor.require_open(site)
        slot = self._slots.get(site)
        if slot is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        try:
            yield from slot.admitting(site)
        except UpdateRefused:
            self.discard(site)
            raise
        self._cursor.commit(site)

    def summing(self) -> Iterator[None]:
        """Do nothing: nothing can be combined before all updates are there."""
        return iter(())

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """
        self._cursor.discard(site)
        slot = self._slots.pop(site, None)
        if slot is not None:
            slot.release()

    @abstractmethod
    def finish(self) -> TensorSet:
        """Return what becomes of the updates."""

    def close(self) -> None:
        """End without a result, or after one; harmless more than once."""
        self._ended = True
        for slot in self._slots.values():
            slot.release()
        self._slots = {}
        self._area.close()

    def _settle(self) -> None:
        """Count the sites that are not settled as discarded. Raises LocalProtocolError."""
        self._expect_running()
        for site in self._cursor.open_sites():
            self.discard(site)

    def _expect_running(self) -> None:
        if self._ended:
            raise LocalProtocolError("the mean has ended")
