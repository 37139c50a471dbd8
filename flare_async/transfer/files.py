"""Models as safetensors files: written without a copy, read strictly."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from flare_async.errors import TensorFormatError, WorkspaceError
from flare_async.limits import MIB
from flare_async.transfer.manifest import ALIASES_KEY, Manifest, tied_text
from flare_async.transfer.spec import TensorSpec, check_layout, checked_name
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "MAX_HEADER",
    "FileHeader",
    "file_chunks",
    "open_regular",
    "read_file",
    "read_header",
]

MAX_HEADER: Final = 100 * MIB  # what the safetensors library accepts
_PREFIX: Final = 8


def file_chunks(
    tensors: TensorSet, metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Yield a valid safetensors file: its header, then the tensors' own memory.

    Tied tensors are written once, as ``safetensors.torch.save_model`` does; their names are in
    the metadata, from which ``read_file`` ties them again.

    Raises:
        TensorFormatError: metadata is no text.
    """
    text = {**(metadata or {}), **tied_text(tensors.aliases)}
    own = tuple(spec for spec in tensors.specs if spec.name not in tensors.aliases)
    manifest = Manifest(own, text)
    yield manifest.header()
    for spec in manifest.specs:
        if spec.nbytes:
            yield tensors[spec.name]


def read_file(path: Path | str) -> TensorSet:
    """Return the tensors of a safetensors file, in the order of its bytes, tied ones last.

    Raises:
        WorkspaceError: the file cannot be read.
        TensorFormatError: it is no safetensors file, or not of the size that its header says.
    """
    place = Path(path)
    try:
        with os.fdopen(open_regular(place), "rb") as file:
            return _read(file, place)
    except OSError as exc:
        raise WorkspaceError("path", str(path), f"cannot be read: {exc}") from exc


def open_regular(path: Path) -> int:
    """Return a descriptor for reading: never of a pipe, which might never open, or of a folder.

    Raises:
        OSError: the system refuses, or it is no regular file.
    """
    # Not blocking: whoever opens a pipe would wait for its writer before it could be told apart.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("is no regular file")
    return file


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a safetensors file says of itself; its bytes begin at ``start``."""

    manifest: Manifest
    specs: tuple[TensorSpec, ...]
    aliases: Mapping[str, str]
    start: int


def read_header(file: BinaryIO, place: Path, size: int) -> FileHeader:
    """Return the header of a file of ``size`` bytes, and leave the file at its end.

    Raises:
        TensorFormatError: it is no safetensors file, or not of the size that its header says.
    """
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _PREFIX or length > min(MAX_HEADER, size - _PREFIX):
        raise TensorFormatError(f"{place.name}: {size} bytes, a header of {length} does not fit")
    manifest = Manifest.parse(prefix + file.read(length), max_bytes=MAX_HEADER)
    rest = size - _PREFIX - length
    if rest != manifest.nbytes:
        raise TensorFormatError(
            f"{place.name}: {rest} bytes follow the header, which says {manifest.nbytes}"
        )
    aliases = _aliases(manifest)
    known = {spec.name: spec for spec in manifest.specs}
    tied = [TensorSpec(n, known[t].dtype, known[t].shape) for n, t in aliases.items()]
    specs = (*manifest.specs, *tied)
    check_layout(specs, aliases)
    return FileHeader(manifest, specs, aliases, _PREFIX + length)


def _read(file: BinaryIO, place: Path) -> TensorSet:
    header = read_header(file, place, os.fstat(file.fileno()).st_size)
    manifest = header.manifest
    block = np.fromfile(file, np.uint8, manifest.nbytes)
    if block.size != manifest.nbytes:
        raise TensorFormatError(f"{place.name}: ends after {block.size} of {manifest.nbytes} bytes")
    bounds = manifest.offsets
    views = {name: block[begin:end].data for name, (begin, end) in bounds.items()}
    return TensorSet.from_views(header.specs, views, header.aliases)


def _aliases(manifest: Manifest) -> dict[str, str]:
    """Return the tied names; metadata of others that happens to have the key is left alone."""
    try:
        found = json.loads(manifest.metadata.get(ALIASES_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    known = {spec.name for spec in manifest.specs}
    if not isinstance(found, dict):
        return {}
    if any(not isinstance(t, str) or t not in known or n in known for n, t in found.items()):
        return {}
    return {checked_name(name): target for name, target in found.items()}
