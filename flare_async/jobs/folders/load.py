"""Reading a job folder. The code in it runs, as that of a script does that its user starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from flare_async.errors import ConfigError, FlareError, WorkspaceError
from flare_async.jobs.folders.decoding import Decoder, keys_of
from flare_async.jobs.folders.export import FORMAT
from flare_async.jobs.folders.names import JOB_FILE, files_below
from flare_async.jobs.jobfile import our_module
from flare_async.limits import MIB
from flare_async.transfer.files import open_regular

if TYPE_CHECKING:
    from flare_async.jobs.recipe import Recipe

__all__ = ["load_job"]

NEEDED: Final = ("format", "recipe", "arguments")
OTHERS: Final = (
    *("flare_async", "client_config", "filters", "calls"),
    *("client_files", "server_files"),
)
CALLS: Final = ("add_cross_site_evaluation", "add_experiment_tracking")
PLACES: Final = ("client_input", "client_output", "server_input", "server_output")


def load_job(folder: str | Path) -> Recipe:
    """Return the recipe of a job folder, with everything that was added to it.

    Raises:
        ConfigError: the folder is none, or something in it cannot be used; the error names it.
        WorkspaceError: a file cannot be read.
    """
    place = Path(folder).expanduser().absolute()
    if not place.is_dir():
        problem = "is no folder" if place.exists() else "there is no such folder"
        raise ConfigError("job", str(folder), problem, "give what recipe.export() returned")
    files = files_below("job", place)
    if JOB_FILE not in files:
        raise ConfigError("job", str(folder), f"has no {JOB_FILE}")
    document = keys_of(JOB_FILE, read_document(files[JOB_FILE]), NEEDED, OTHERS)
    if document["format"] != FORMAT:
        problem = f"this version reads format {FORMAT}"
        raise ConfigError(f"{JOB_FILE}.format", document["format"], problem)
    decoder = Decoder(files, place)
    recipe = recipe_of(decoder, document)
    add(decoder, document, recipe)
    return recipe


def read_document(path: Path) -> object:
    """Return what a file of strict JSON holds. Raises ConfigError, WorkspaceError."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(MIB + 1)
    except OSError as exc:
        raise WorkspaceError("job", str(path), f"cannot be read: {exc}") from exc
    if len(data) > MIB:
        raise ConfigError("job", str(path), f"has more than {MIB} bytes")
    try:
        document: object = json.loads(
            data, object_pairs_hook=unlike_pairs, parse_constant=no_constant
        )
    except (ValueError, RecursionError) as exc:
        raise ConfigError("job", str(path), f"is no strict JSON: {exc}") from exc
    return document


def unlike_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object whose keys differ. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key comes twice among {[key for key, _ in pairs][:5]}")
    return found


def no_constant(name: str) -> object:
    """Refuse what is no JSON. Raises ValueError."""
    raise ValueError(f"{name} is no number")


def recipe_of(decoder: Decoder, document: Mapping[str, object]) -> Recipe:
    """Return the recipe as it was made. Raises ConfigError."""
    from flare_async.jobs.recipe import Recipe

    make = decoder.class_of(f"{JOB_FILE}.recipe", document["recipe"])
    arguments = decoder.value(f"{JOB_FILE}.arguments", document["arguments"])
    if not isinstance(arguments, dict):
        raise ConfigError(f"{JOB_FILE}.arguments", arguments, "an object is needed")
    if not isinstance(make, type) or not issubclass(make, Recipe):
        raise ConfigError(f"{JOB_FILE}.recipe", document["recipe"], "is no recipe")
    try:
        return make(**arguments)
    except FlareError:
        raise
    except TypeError as exc:
        raise ConfigError(f"{JOB_FILE}.arguments", sorted(arguments), str(exc)) from exc


def add(decoder: Decoder, document: Mapping[str, object], recipe: Recipe) -> None:
    """Add to a recipe what was added to it. Raises ConfigError."""
    values = {
        name: decoder.value(f"{JOB_FILE}.{name}", document[name])
        for name in ("client_config", "filters", "calls")
        if name in document
    }
    recipe.add_client_config(cast("Mapping[str, object]", values.get("client_config", {})))
    for entry in entries("filters", values):
        keys = keys_of("filters", entry, ("place", "filter"), ("tasks", "clients"))
        if keys["place"] not in PLACES:
            raise ConfigError("filters.place", keys["place"], f"use one of {', '.join(PLACES)}")
        given: Any = keys
        recipe.filters.add(
            given["place"], given["filter"], given.get("tasks"), given.get("clients")
        )
    for entry in entries("calls", values):
        keys = keys_of("calls", entry, ("call", "arguments"))
        if keys["call"] not in CALLS:
            raise ConfigError("calls.call", keys["call"], f"use one of {', '.join(CALLS)}")
        call = getattr(our_module("flare_async.recipes"), str(keys["call"]))
        call(recipe, **cast("dict[str, object]", keys["arguments"]))
    add_files(decoder, document, recipe)


def add_files(decoder: Decoder, document: Mapping[str, object], recipe: Recipe) -> None:
    """Add the files of sites and server. Raises ConfigError."""
    for entry in entries("client_files", document):
        keys = keys_of("client_files", entry, ("file",), ("clients",))
        clients: Any = keys.get("clients")
        recipe.add_client_file(decoder.place("client_files", keys["file"]), clients)
    for entry in entries("server_files", document):
        keys = keys_of("server_files", entry, ("file",))
        recipe.add_server_file(decoder.place("server_files", keys["file"]))


def entries(name: str, values: Mapping[str, object]) -> list[object]:
    """Return a list of a document. Raises ConfigError."""
    found = values.get(name, [])
    if not isinstance(found, list):
        raise ConfigError(f"{JOB_FILE}.{name}", found, "a list is needed")
    return found
