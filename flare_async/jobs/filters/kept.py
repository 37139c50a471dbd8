"""A reducer that keeps updates one by one, for rounds that make no sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from flare_async.errors import LocalProtocolError
from flare_async.model import ParamsType
from flare_async.roles.like_model import LikeModel
from flare_async.transfer.admission import Admission
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.tensors import TensorSet

__all__ = ["KeptUpdates"]

Look: TypeAlias = Callable[[str, TensorSet], Iterator[None]]


class KeptUpdates:
    """Keeps each update until the round hands it out.

    What is kept has the tensors of ``model`` and nothing else, with finite values, and has passed
    ``look(site, tensors)``, which may raise UpdateRefused and yields between steps.
    """

    def __init__(
        self, model: TensorSet, memory_bytes: int | None = None, look: Look | None = None
    ) -> None:
        self._admission = Admission(model.specs, aliases=model.aliases)
        self._memory_bytes = memory_bytes
        self._look = look
        self._sinks: dict[str, LikeModel] = {}

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> TensorSink:
        """Return the sink for a site's update; a former one of the same site is discarded."""
        del weight, kind
        self.discard(site)
        self._sinks[site] = LikeModel(site, self._admission, self._memory_bytes)
        return self._sinks[site]

    def commit(self, site: str) -> None:
        """Keep an update until ``taken``. Raises as ``admitting``."""
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Keep an update until ``taken``, yielding as often as ``look`` does.

        Raises:
            UpdateRefused: a value is not finite, or it was looked at in vain.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged.
        """
        sink = self._sinks.get(site)
        if sink is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        self._admission.check(site, sink.tensors, 1.0)
        if self._look is not None:
            yield from self._look(site, sink.tensors)

    def summing(self) -> Iterator[None]:
        """Add nothing: there is no sum."""
        return iter(())

    def discard(self, site: str) -> None:
        """Let go of a site's update, if there is one."""
        sink = self._sinks.pop(site, None)
        if sink is not None:
            sink.discard()

    def taken(self, site: str) -> TensorSet | None:
        """Return an update, which is kept no longer."""
        sink = self._sinks.pop(site, None)
        return None if sink is None else sink.tensors

    def finish(self) -> TensorSet:
        """There is no sum. Raises LocalProtocolError."""
        raise LocalProtocolError("updates that are kept are not summed")
