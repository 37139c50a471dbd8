"""The model of ``bench.memory``, and what a client of it answers."""

from __future__ import annotations

import numpy as np

from flare_async.roles.client import SiteResult, SiteTask
from flare_async.transfer.tensors import TensorSet

__all__ = ["AddsOne", "new_model"]


def new_model(nbytes: int, tensor_bytes: int) -> TensorSet:
    """Return float32 tensors of ``tensor_bytes`` that are ``nbytes`` together."""
    draw = np.random.default_rng(0)
    params: dict[str, object] = {}
    left = max(1, nbytes // 4)
    while left:
        size = min(left, max(1, tensor_bytes // 4))
        params[f"layer{len(params)}.weight"] = draw.random(size, np.float32)
        left -= size
    return TensorSet.from_params(params)


class AddsOne:
    """A worker whose result is the model plus one, in memory of its own: one more copy."""

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task."""
        made = {name: array + np.float32(1) for name, array in task.tensors.numpy().items()}
        return SiteResult(TensorSet.from_params(made), "FULL", {})
