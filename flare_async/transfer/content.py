"""Tensors that a job has here already, found by their content, so that they are not sent again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flare_async.transfer.tensors import TensorSet

__all__ = ["ContentCache"]


class ContentCache:
    """Verified tensors by blake3 digest; it holds references, and never copies.

    Scoped to one job: what one job has fetched is not to be seen, not even by its absence from the
    wire, by another one. It keeps the tensors of the latest fetch. Those that the next one does not
    have are let go of before a byte of it arrives, so a model that changes is never held twice.
    """

    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: dict[tuple[bytes, int], memoryview] = {}

    def __len__(self) -> int:
        return len(self._views)

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors that are held."""
        return sum(view.nbytes for view in self._views.values())

    def find(self, digest: bytes, nbytes: int) -> memoryview | None:
        """Return the tensor of that content, if it is here."""
        return self._views.get((digest, nbytes))

    def sizes(self) -> frozenset[int]:
        """Return the sizes of the tensors that are held."""
        return frozenset(nbytes for _, nbytes in self._views)

    def retain(self, digests: Collection[bytes]) -> None:
        """Let go of what has none of these digests."""
        wanted = frozenset(digests)
        self._views = {key: view for key, view in self._views.items() if key[0] in wanted}

    def keep(self, tensors: TensorSet, digests: Mapping[str, bytes]) -> None:
        """Hold the tensors whose digests are known, and nothing else."""
        self._views = {
            (digest, tensors[name].nbytes): tensors[name] for name, digest in digests.items()
        }

    def clear(self) -> None:
        """Let go of everything."""
        self._views = {}
