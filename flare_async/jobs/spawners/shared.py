"""Tensors laid out one after the other, for another process: in a file, or in an array.

The file is nameless, and two processes of one machine share it by its descriptor. The sender writes
with ``pwrite``, which needs no mapping; a worker maps the model read-only, and the parent reads an
update back into memory of its own, which the worker can no longer reach. The array is what an
object store takes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "Borrowed",
    "Bytes",
    "from_array",
    "layout",
    "mapped",
    "read_tensors",
    "to_array",
    "write_tensors",
]

Bytes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"

ALIGNMENT: Final = 64  # a cache line; also enough for every element type


class HasFileno(Protocol):
    """An open file, whoever owns its descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A descriptor that somebody else closes."""

    fd: int

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd


def layout(specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> tuple[dict[str, int], int]:
    """Return where each tensor starts, and the file's size; aliases take no room."""
    offsets: dict[str, int] = {}
    end = 0
    for spec in specs:
        if spec.name not in aliases:
            offsets[spec.name] = end
            end += -(-spec.nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, max(end, ALIGNMENT)  # an empty file cannot be mapped


def write_tensors(file: HasFileno, tensors: TensorSet) -> None:
    """Write all tensors to their places.

    Raises:
        OSError: the file has no room.
    """
    offsets, _ = layout(tensors.specs, tensors.aliases)
    for name, start in offsets.items():
        view = tensors[name]
        done = 0
        while done < view.nbytes:
            done += os.pwrite(file.fileno(), view[done:], start + done)


def mapped(fd: int, specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> TensorSet:
    """Return the tensors as read-only views of a mapping, which lives as long as they do.

    Raises:
        TensorFormatError: the file is smaller than the tensors, or an alias matches nothing.
    """
    offsets, size = layout(specs, aliases)
    if os.fstat(fd).st_size < size:
        raise TensorFormatError(f"shared file: {os.fstat(fd).st_size} bytes, {size} are needed")
    whole = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
    return _set_over(whole, specs, aliases, offsets)


def read_tensors(
    file: HasFileno, specs: Sequence[TensorSpec], aliases: Mapping[str, str]
) -> TensorSet:
    """Return the tensors as a copy in memory of this process.

    Raises:
        TensorFormatError: the file is smaller than the tensors, or an alias matches nothing.
    """
    offsets, size = layout(specs, aliases)
    whole = np.empty(size, np.uint8).data
    done = 0
    while done < size:
        got = os.preadv(file.fileno(), [whole[done:]], done)
        if got == 0:
            raise TensorFormatError(f"shared file: {done} bytes, {size} are needed")
        done += got
    return _set_over(whole, specs, aliases, offsets)


def to_array(tensors: TensorSet) -> Bytes:
    """Return a copy of all tensors in one array of bytes."""
    offsets, size = layout(tensors.specs, tensors.aliases)
    whole = np.empty(size, np.uint8)
    for name, start in offsets.items():
        view = tensors[name]
        whole.data[start : start + view.nbytes] = view
    return whole


def from_array(
    array: Bytes,
    specs: Sequence[TensorSpec],
    aliases: Mapping[str, str],
) -> TensorSet:
    """Return the tensors as views of an array.

    Raises:
        TensorFormatError: it is smaller than the tensors, or an alias matches nothing.
    """
    offsets, size = layout(specs, aliases)
    if array.nbytes < size:
        raise TensorFormatError(f"shared array: {array.nbytes} bytes, {size} are needed")
    return _set_over(array.data, specs, aliases, offsets)


def _set_over(
    whole: memoryview,
    specs: Sequence[TensorSpec],
    aliases: Mapping[str, str],
    offsets: Mapping[str, int],
) -> TensorSet:
    views = {
        spec.name: whole[offsets[spec.name] : offsets[spec.name] + spec.nbytes]
        for spec in specs
        if spec.name in offsets
    }
    return TensorSet.from_views(specs, views, aliases)
