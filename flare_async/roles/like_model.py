"""A sink for updates that are kept as they are: it takes what the model has, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from flare_async.transfer.admission import Admission
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.spec import TensorSpec

__all__ = ["LikeModel"]


class LikeModel(MemorySink):
    """A sink that takes the tensors of the model and nothing else.

    It is told of them before a byte is pulled, so nobody makes this side take more memory.
    """

    __slots__ = ("_admission", "_site")

    def __init__(self, site: str, admission: Admission, memory_bytes: int | None) -> None:
        super().__init__(memory_bytes=memory_bytes)
        self._site = site
        self._admission = admission

    def _check(self, specs: Sequence[TensorSpec], total: int) -> None:
        self._admission.check_specs(self._site, specs)
        super()._check(specs, total)
