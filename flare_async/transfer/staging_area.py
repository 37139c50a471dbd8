"""What the waiting updates of one reducer share: a memory budget and, beyond it, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flare_async.transfer.spool import Spool

__all__ = ["StagingArea"]

_PRESSED: Final = 0.8  # of the budget: from there on less is asked for at a time


class StagingArea:
    """What all waiting updates of one reducer share: a memory budget and, beyond it, a spool.

    Adopted tensors count as ``referenced_bytes``, not against the budget: their memory is held by
    whoever offered them all the same.
    """

    def __init__(self, budget: int, *, folder: Path | None = None) -> None:
        self._budget = budget
        self._folder = folder
        self._spool: Spool | None = None
        self.memory_bytes = 0
        self.peak_bytes = 0
        self.spilled_bytes = 0
        self.referenced_bytes = 0

    @property
    def pressed(self) -> bool:
        """Whether memory is short: most of the budget is taken, or something went to the spool."""
        return self._spool is not None or self.memory_bytes > _PRESSED * self._budget

    def reserve(self, nbytes: int) -> bool:
        """Take memory from the budget; False says that the bytes must go to the spool."""
        if self.memory_bytes + nbytes > self._budget:
            return False
        self.memory_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.memory_bytes)
        return True

    def release(self, nbytes: int) -> None:
        """Give memory back to the budget."""
        self.memory_bytes -= nbytes

    def spool(self) -> Spool:
        """Return the spool, which is made when it is needed first.

        Raises:
            TransferError: the system refuses to make a file.
        """
        if self._spool is None:
            self._spool = Spool(self._folder)
        return self._spool

    def close(self) -> None:
        """Remove the spool; harmless more than once."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
