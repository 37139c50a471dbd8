"""Sources and passages for tests of filters."""

from __future__ import annotations

import numpy as np

from flare_async.model import ParamsType
from flare_async.transfer.filters import Passage
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet

SIZE = 700_000  # values: more than two cells


def source_of(**arrays):
    """Return a source of arrays."""
    return MemorySource(TensorSet.from_params(arrays))


def passage(*, steps=None, received=None, kind=ParamsType.DIFF, key=7):
    """Return a passage of a training task."""
    meta = {} if steps is None else {"NUM_STEPS_CURRENT_ROUND": steps}
    return Passage(task="train", site="site-1", kind=kind, meta=meta, received=received, key=key)


def normal(size=SIZE, dtype=np.float32, seed=1):
    """Return values of a normal distribution."""
    return np.random.default_rng(seed).normal(size=size).astype(dtype)


def read(source, name, start=0):
    """Return the bytes of a tensor from ``start`` on."""
    return b"".join(bytes(chunk) for chunk in source.chunks(name, start))
