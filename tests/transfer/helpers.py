"""Small models, and a peer that fills sinks."""

from __future__ import annotations

import numpy as np

from flare_async.limits import Limits
from flare_async.transfer.tensors import TensorSet


def numbers(seed, shape=(37, 5), dtype=np.float32):
    """Return values whose float32 sums depend on their order."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) * 10.0 ** generator.integers(-3, 4, shape)).astype(
        dtype
    )


def fill(sink, tensors, piece=64):
    """Write a whole update into a sink, piece by piece, and finish it."""
    sink.begin(tensors.specs, tensors.aliases)
    for name, view in tensors.items():
        if name in tensors.aliases:
            continue
        for at in range(0, view.nbytes, piece):
            part = view[at : at + piece]
            sink.destination(name, at, part.nbytes)[:] = part
            sink.landed(name, at, part.nbytes)
    sink.finish()


def adopt(sink, tensors):
    """Give a whole update to a sink by reference."""
    sink.begin(tensors.specs, tensors.aliases)
    for name, view in tensors.items():
        if name not in tensors.aliases:
            sink.adopt(name, view)
    sink.finish()


def params(**values):
    """Return a set of NumPy arrays."""
    return TensorSet.from_params(values)


def staging(nbytes):
    """Return limits with that staging budget."""
    return Limits(staging_bytes=nbytes)
