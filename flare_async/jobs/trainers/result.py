"""A result on its way out of a trainer: a sealed file, whole or as the difference to a model."""

from __future__ import annotations

import os

from flare_async.errors import FlareError, TrainingFailed
from flare_async.jobs.spawners.platform import MemoryFile
from flare_async.jobs.spawners.shared import layout, write_tensors
from flare_async.jobs.trainers.shared import SharedSource, new_file, seal
from flare_async.transfer.difference import difference
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["result_file"]


def result_file(site: str, tensors: TensorSet, base: SharedSource | None) -> MemoryFile:
    """Return a sealed file of the tensors, or of what they have changed since ``base``.

    ``base`` is a model of the same specs; a difference holds a MiB of it at a time.

    Raises:
        TrainingFailed: there is no room for it, or a difference has no meaning.
    """
    try:
        file = new_file(layout(tensors.specs, tensors.aliases)[1])
        if base is None:
            write_tensors(file, tensors)
        else:
            _write_difference(file, tensors, base)
    except OSError as exc:
        problem = f"no room for the {tensors.nbytes} bytes of its result: {exc}"
        raise TrainingFailed(site, problem) from exc
    except FlareError as exc:
        raise TrainingFailed(site, f"{exc}; use FULL transfer") from exc
    seal(file, content=True)
    return file


def _write_difference(file: MemoryFile, tensors: TensorSet, base: SharedSource) -> None:
    offsets, _ = layout(tensors.specs, tensors.aliases)
    for name, start in offsets.items():
        spec, new = tensors.spec(name), tensors[name]
        at = 0
        for old in base.chunks(name):
            change = _difference(spec, new[at : at + old.nbytes], old)
            done = 0
            while done < change.nbytes:
                done += os.pwrite(file.fileno(), change[done:], start + at + done)
            at += old.nbytes


def _difference(spec: TensorSpec, new: memoryview, old: memoryview) -> memoryview:
    # A MiB holds whole elements of every type.
    part = TensorSpec(spec.name, spec.dtype, (8 * old.nbytes // dtype_of(spec.dtype).bits,))
    pieces = [TensorSet.from_views([part], {spec.name: piece}) for piece in (new, old)]
    return difference(*pieces)[spec.name]
