"""Files with a recipe's first model, on the submitter's side: safetensors, PyTorch's, NumPy's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import numpy as np

from flare_async.errors import MissingExtra, TensorFormatError, WorkspaceError
from flare_async.jobs.work import Framework
from flare_async.model import NPConstants
from flare_async.transfer.files import open_regular, read_file, read_header
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "FIXED",
    "FORMATS",
    "ORDER",
    "framework_in",
    "is_torch_file",
    "names_in",
    "read_checkpoint",
    "said_in",
]

# The metadata of a safetensors file: whose tensors they are, as its library writes it, ...
FORMATS: Final[Mapping[str, Framework]] = {"pt": "torch", "tf": "tensorflow", "np": "numpy"}
FIXED: Final = "fixed"  # ... as JSON, which of them no optimizer moves, ...
ORDER: Final = "order"  # ... and in which order a model has them: the file sorts them

SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".bin"})
INNER: Final = ("model", "state_dict", "model_state_dict")  # as NVFlare, Lightning and others do


def read_checkpoint(path: str | Path) -> TensorSet:
    """Return the tensors of a file; its name says which kind it is.

    A PyTorch file is read with ``weights_only=True``, so nothing in it is executed. It holds a
    state dict, or a dict with one under ``model``, ``state_dict`` or ``model_state_dict``. The one
    array of a ``.npy`` file is called ``numpy_key``.

    Raises:
        WorkspaceError: the file cannot be read.
        TensorFormatError: it is not what its name says, or holds more than tensors.
        MissingExtra: a PyTorch file, and torch is not installed.
    """
    place = Path(path)
    if is_torch_file(place):
        return _read_torch(place)
    return _read_numpy(place) if place.suffix == ".npy" else _read_safetensors(place)


def said_in(path: str | Path) -> Mapping[str, str]:
    """Return the metadata of a safetensors file; nothing of other files.

    Raises:
        WorkspaceError: the file cannot be read.
        TensorFormatError: it is no safetensors file.
    """
    place = Path(path)
    if is_torch_file(place) or place.suffix == ".npy":
        return {}
    try:
        with os.fdopen(open_regular(place), "rb") as file:
            return read_header(file, place, os.fstat(file.fileno()).st_size).manifest.metadata
    except OSError as exc:
        raise WorkspaceError("initial_ckpt", str(path), f"cannot be read: {exc}") from exc


def framework_in(path: str | Path) -> Framework:
    """Return whose tensors a file holds; NumPy's where it does not say. Raises as ``said_in``."""
    return "torch" if is_torch_file(path) else FORMATS.get(said_in(path).get("format", ""), "numpy")


def names_in(path: str | Path, key: str) -> tuple[str, ...] | None:
    """Return the names in a file's metadata under ``FIXED`` or ``ORDER``; None where it has none.

    Raises as ``said_in``.
    """
    try:
        found: object = json.loads(said_in(path).get(key, "null"))
    except (ValueError, RecursionError):
        return None  # somebody else's metadata
    return tuple(map(str, found)) if isinstance(found, list) else None


def is_torch_file(path: str | Path) -> bool:
    """Return whether a file's name is that of a PyTorch file."""
    return Path(path).suffix in SUFFIXES


def _read_torch(path: Path) -> TensorSet:
    try:
        import torch
    except ImportError as exc:
        raise MissingExtra("torch", "torch") from exc
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        problem = f"cannot be read: {exc.strerror or exc}"
        raise WorkspaceError("initial_ckpt", str(path), problem) from exc
    except Exception as exc:  # what a foreign file makes torch raise is no contract
        said = (str(exc).splitlines() or [type(exc).__name__])[0]
        problem = f"{path.name}: no PyTorch file of tensors only: {said:.200}"
        raise TensorFormatError(problem) from exc
    return TensorSet.from_params(_state_of(path, found)).copy()


def _read_safetensors(path: Path) -> TensorSet:
    tensors = read_file(path)
    order = names_in(path, ORDER)
    if order is None or sorted(order) != sorted(tensors):
        return tensors
    views = {name: tensors[name] for name in tensors if name not in tensors.aliases}
    return TensorSet.from_views([tensors.spec(name) for name in order], views, tensors.aliases)


def _read_numpy(path: Path) -> TensorSet:
    try:
        array: object = np.load(path, allow_pickle=False)
    except OSError as exc:
        problem = f"cannot be read: {exc.strerror or exc}"
        raise WorkspaceError("initial_ckpt", str(path), problem) from exc
    except (ValueError, EOFError) as exc:
        raise TensorFormatError(f"{path.name}: no file of one array: {exc}") from exc
    return TensorSet.from_params({NPConstants.NUMPY_KEY: array})


def _state_of(path: Path, found: object) -> Mapping[str, object]:
    state = found
    for name in INNER:
        inner = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(inner, Mapping):
            state = inner
            break
    if not isinstance(state, Mapping) or not state:
        raise TensorFormatError(f"{path.name}: holds {type(found).__name__}, no state dict")
    return cast("Mapping[str, object]", state)
