"""What a run leaves in its folder when it has ended, whatever its end."""

from __future__ import annotations

import asyncio
import json
import platform
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO, cast

from flare_async import __version__
from flare_async.errors import FlareError
from flare_async.jobs.conducting import cause_of
from flare_async.jobs.history import finite
from flare_async.jobs.pieces import Pieces
from flare_async.jobs.run import Run
from flare_async.ports import Store
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.jobs.recipe import Recipe

__all__ = ["keep_run", "keep_torch"]


async def keep_run(run: Run, recipe: Recipe, store: Store, setting: Mapping[str, object]) -> None:
    """Write ``run.json``, a PyTorch recipe's models as PyTorch files, and a recipe's own files.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    if recipe.torch_filename is not None:
        await keep_torch(store, recipe.torch_filename, run.model)
        await keep_torch(store, f"best_{recipe.torch_filename}", run.best_model)
    for name, make in recipe.files(run).items():
        made = await asyncio.to_thread(make)
        await store.write(name, [made] if isinstance(made, bytes) else made)
        del made
    if run.cause is not None and not isinstance(run.cause, FlareError):
        lines = traceback.format_exception(run.cause)
        await store.write("traceback.txt", ["".join(lines).encode()])
    document = finite(summary(run, recipe, setting))
    await store.write("run.json", [json.dumps(document, indent=2).encode(), b"\n"])


def summary(run: Run, recipe: Recipe, setting: Mapping[str, object]) -> dict[str, object]:
    """Return the facts of a run as plain values."""
    best = run.history.best()
    cause = run.cause
    return {
        "run_id": run.run_id,
        "status": str(run.status),
        "recipe": recipe.name,
        "rounds": len([record for record in run.history.rounds if record.task == "train"]),
        **setting,
        **asdict(run.statistics),
        "memory_plan": None if run.plan is None else run.plan.document(),
        "best_version": None if best is None else best.version,
        "best_metrics": {} if best is None else dict(best.metrics),
        "failed_sites": run.history.failed_sites(),
        "model_digest": None if run.model is None else run.model.model_digest(),
        "cause": None if cause is None else {"code": code_of(cause), "message": cause_of(cause)},
        "versions": {"flare_async": __version__, "python": platform.python_version()},
    }


def code_of(error: BaseException) -> str:
    """Return the stable code of an error; what is no error of ours is a bug."""
    return error.code if isinstance(error, FlareError) else "bug"


async def keep_torch(store: Store, name: str, model: TensorSet | None) -> None:
    """Write a model as a PyTorch file. Raises WorkspaceError."""
    if model is None:
        return
    import torch

    def encode() -> list[bytes | memoryview]:
        file = Pieces(model[name] for name in model)
        torch.save({"model": model.torch()}, cast("BinaryIO", file))
        return file.chunks

    await store.write(name, await asyncio.to_thread(encode))
