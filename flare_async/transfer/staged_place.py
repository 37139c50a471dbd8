"""Where the bytes of one staged tensor are."""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.transfer.buffers import BufferPool, Leases

__all__ = ["Place", "referenced"]


@dataclass(slots=True)
class Place:
    """In memory, lent or not, or in the spool from ``extent`` on."""

    nbytes: int
    view: memoryview | None = None
    extent: int | None = None
    reserved: bool = False
    lent: bool = False
    leases: Leases | None = None

    def leased(self, buffers: BufferPool) -> Leases:
        """Return what a tensor in the spool leases of its buffers."""
        if self.leases is None:
            self.leases = Leases(buffers)
        return self.leases


def referenced(view: memoryview) -> memoryview:
    """Return bytes of somebody else, flat and not to be written."""
    return view.toreadonly().cast("B") if view.nbytes else memoryview(b"")
