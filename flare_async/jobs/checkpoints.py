"""Files with a recipe's first model, on the submitter's side: safetensors, PyTorch's, NumPy's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import numpy as np

from flare_async.errors import MissingExtra, TensorFormatError, WorkspaceError
from flare_async.model import NPConstants
from flare_async.transfer.files import read_file
from flare_async.transfer.tensors import TensorSet

__all__ = ["is_torch_file", "read_checkpoint"]

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
    return _read_numpy(place) if place.suffix == ".npy" else read_file(place)


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
