"""What turns the updates of a round into the next model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from flare_async.model import ParamsType
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.sums import Share
from flare_async.transfer.tensors import TensorSet

__all__ = ["GroupReducer", "KeepingReducer", "Reducer", "SteppedReducer", "keeps"]


class Reducer(Protocol):
    """Takes updates in any order of arrival and combines them in the order of the cohort.

    ``stage`` gives a sink that an update arrives in; when it is whole, ``commit`` admits it, or
    ``discard`` gives the site up. An update that is refused or discarded has touched nothing.
    """

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> TensorSink:
        """Return the sink for a site's update; a former one of the same site is discarded.

        ``kind`` says whether it is a whole model or a difference; None is the reducer's default.

        Raises:
            LocalProtocolError: the site is not of the cohort, or settled already.
        """

    def commit(self, site: str) -> None:
        """Admit a whole update; it enters the sum when all sites before it are settled.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, or the site is settled already.
        """

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """

    def finish(self) -> TensorSet:
        """Return the new model; sites that are not settled count as discarded.

        Raises:
            LocalProtocolError: no update was committed.
        """


@runtime_checkable
class SteppedReducer(Reducer, Protocol):
    """A reducer whose arithmetic can be taken in steps, between which the loop may do others'."""

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after every chunk; raises as ``commit`` does.

        When it returns, the update cannot be discarded any more.
        """

    def summing(self) -> Iterator[None]:
        """Add what can be added by now, yielding after every chunk.

        Raises:
            TransferError: what was staged could not be read.
        """


@runtime_checkable
class KeepingReducer(Reducer, Protocol):
    """A reducer that keeps admitted updates for whoever iterates over the round."""

    def taken(self, site: str) -> TensorSet | None:
        """Return an admitted update's tensors; None where they are in a sum."""


def keeps(reducer: Reducer) -> TypeGuard[KeepingReducer]:
    """Return whether a reducer keeps updates; ``isinstance`` takes thirty times as long."""
    return hasattr(reducer, "taken")


@runtime_checkable
class GroupReducer(SteppedReducer, Protocol):
    """A reducer that takes partial sums of groups of sites, which relays have added."""

    def group(self, groups: Sequence[Sequence[str]]) -> SumRules | None:
        """Add group by group from now on; None says that updates must come one by one.

        The answer is what somebody else must know to add a group to the same bits.

        Raises:
            LocalProtocolError: the sum has begun.
        """

    def stage_partial(self, shares: Sequence[Share]) -> TensorSink:
        """Return the sink for the partial sum of some sites.

        Raises:
            LocalProtocolError: one of them is not of the cohort, or settled already.
        """

    def admitting_partial(self, shares: Sequence[Share]) -> Iterator[None]:
        """Admit a whole partial sum, yielding after every chunk: all of its sites at once.

        Raises:
            UpdateRefused: it is not admissible; its sites stay open.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, or one of the sites is settled already.
        """
