"""Where tensors are read from when a peer pulls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from flare_async.errors import TransferError
from flare_async.limits import MIB

if TYPE_CHECKING:
    from flare_async.transfer.spec import TensorSpec
    from flare_async.transfer.tensors import TensorSet

__all__ = ["MemorySource", "StoredSource", "TensorSource"]


class TensorSource(Protocol):
    """Named tensors whose bytes can be read again from any offset.

    ``specs`` lists every name. A name in ``aliases`` has the very bytes of the name it maps to, so
    a reader need not pull it.
    """

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names of tied tensors and the first name that has the same bytes."""

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` on; a chunk is valid until the next one is asked for.

        Raises:
            TransferError: no such tensor, or ``start`` is outside of it.
        """


@runtime_checkable
class StoredSource(Protocol):
    """A source that takes the disk's time: pulls are fed from ``piece``, in a thread."""

    def piece(self, name: str, start: int, nbytes: int) -> bytes:
        """Return that many bytes, or those up to the tensor's end.

        Raises:
            TransferError: as ``TensorSource.chunks``.
        """


class MemorySource:
    """Reads a ``TensorSet``; chunks are read-only views of its memory and stay valid."""

    __slots__ = ("_chunk", "tensors")

    def __init__(self, tensors: TensorSet, *, chunk: int = MIB) -> None:
        self.tensors = tensors
        self._chunk = chunk

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self.tensors.specs

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names of tied tensors and the first name that has the same bytes."""
        return self.tensors.aliases

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield views of the bytes from ``start`` on.

        Raises:
            TransferError: no such tensor, or ``start`` is outside of it.
        """
        view = self.tensors.get(name)
        if view is None:
            raise TransferError(f"tensor {name!r}: not in this source")
        if not 0 <= start <= view.nbytes:
            raise TransferError(f"tensor {name!r}: start {start} is outside of {view.nbytes} bytes")
        return (view[at : at + self._chunk] for at in range(start, view.nbytes, self._chunk))
