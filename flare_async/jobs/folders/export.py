"""Writing a job folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Final

from flare_async import __version__
from flare_async.errors import ConfigError
from flare_async.jobs.checkpoints import FIXED, FORMATS, ORDER
from flare_async.jobs.folders.draft import Draft
from flare_async.jobs.folders.encoding import Encoder, own_fields
from flare_async.jobs.site_options import check_secrets
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.jobs.added_files import AddedFile
    from flare_async.jobs.recipe import Recipe

__all__ = ["FORMAT", "export_job"]

FORMAT: Final = 1
MODEL: Final = "model.safetensors"
# Arguments of which the first model came: the folder has the model itself.
MODEL_ARGUMENTS: Final = frozenset(
    {"model", "initial_model", "initial_ckpt", "eval_ckpt", "model_path"}
)


def export_job(recipe: Recipe, job_dir: str | Path) -> Path:
    """Write ``job_dir/<name of the recipe>`` and return it.

    Raises:
        ConfigError: something in the recipe cannot be written down; the error names it.
        WorkspaceError: the folder exists, or cannot be written.
    """
    folder = Path(job_dir).expanduser().absolute() / recipe.name
    draft = Draft()
    encoder = Encoder(draft)
    document: dict[str, object] = {"format": FORMAT, "flare_async": __version__}
    document["recipe"] = recipe_of(recipe, encoder)
    document["arguments"] = arguments_of(recipe, draft, encoder)
    document |= {key: value for key, value in additions_of(recipe, draft, encoder).items() if value}
    draft.write(folder, document)
    return folder


def recipe_of(recipe: Recipe, encoder: Encoder) -> object:
    """Return the recipe's name, or where its class is found. Raises ConfigError."""
    given: object = recipe
    if not dataclasses.is_dataclass(given):
        problem = "cannot be exported: what its arguments are is not known"
        raise ConfigError("recipe", type(recipe).__name__, problem, "make it a dataclass")
    found = encoder.class_of("recipe", type(recipe))
    return found if "file" in found else found["name"]


def arguments_of(recipe: Recipe, draft: Draft, encoder: Encoder) -> dict[str, object]:
    """Return the arguments that a recipe was made with, its first model as a file."""
    given = own_fields(recipe)
    found: dict[str, object] = {}
    initial = getattr(recipe, "initial", None)
    if isinstance(initial, TensorSet) and hasattr(recipe, "initial_ckpt"):
        given = {name: value for name, value in given.items() if name not in MODEL_ARGUMENTS}
        if len(initial):
            file = draft.tensors("model", MODEL, initial, said_of(recipe, initial))
            found["initial_ckpt"] = {"$file": file}
    for name, value in given.items():
        if isinstance(value, FunctionType) and value.__module__.startswith("flare_async.recipes."):
            continue  # the recipe puts it there itself
        found[name] = encoder.argument(name, value)
    return found


def said_of(recipe: Recipe, model: TensorSet) -> Mapping[str, str]:
    """Return what the model's file says beside its tensors."""
    kind: object = getattr(recipe, "model_framework", "numpy")
    said = {"format": next(name for name, framework in FORMATS.items() if framework == kind)}
    said[ORDER] = json.dumps(list(model))
    trainable = getattr(recipe, "trainable", None)
    if trainable is not None:
        said[FIXED] = json.dumps([name for name in model if name not in trainable])
    return said


def additions_of(recipe: Recipe, draft: Draft, encoder: Encoder) -> dict[str, object]:
    """Return what was added to a recipe after it was made."""
    return {
        "client_config": encoder.value("client_config", recipe.client_config),
        "filters": [
            {
                "place": place,
                "filter": encoder.value(f"add_{place}_filter", added.filter),
                "tasks": None if added.tasks is None else sorted(added.tasks),
                "clients": None if added.clients is None else sorted(added.clients),
            }
            for place, added in recipe.filters.added()
        ],
        "calls": calls_of(recipe, encoder),
        "client_files": [added_file(one, draft, "client_files") for one in recipe.client_files],
        "server_files": [added_file(one, draft, "server_files") for one in recipe.server_files],
    }


def calls_of(recipe: Recipe, encoder: Encoder) -> list[object]:
    """Return the calls that add trackers and what follows a run. Raises ConfigError."""
    calls: list[object] = []
    for tracker in recipe.trackers:
        given = {k: v for k, v in own_fields(tracker).items() if k not in {"name", "events"}}
        check_secrets("tracking_config", given)
        config = encoder.value("tracking_config", given)
        arguments = {"tracking_type": tracker.name, "tracking_config": config}
        calls.append({"call": "add_experiment_tracking", "arguments": arguments})
    for follower in recipe.followers:
        call, options = follower.addition()
        calls.append({"call": call, "arguments": encoder.value(call, options)})
    return calls


def added_file(added: AddedFile, draft: Draft, folder: str) -> dict[str, object]:
    """Return an entry for a file; it keeps its name."""
    found: dict[str, object] = {"file": draft.file(f"add_{folder[:-1]}", added.path, folder)}
    return found if added.clients is None else {**found, "clients": list(added.clients)}
