"""The recipe of a user's job file or job folder, for as long as its run lasts."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.conducting import note
from flare_async.jobs.jobfile import load_job_file
from flare_async.jobs.places import place_of_error
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import JOB_MODULE

__all__ = ["loaded_recipe"]

EXAMPLE: Final = "add recipe = FedAvgRecipe(...), or def recipe(): ... that returns one"
OFFERED: Final = ("seed", "alpha")  # arguments that a recipe function may take


@contextmanager
def loaded_recipe(path: Path, offered: Mapping[str, object]) -> Iterator[Recipe]:
    """Load a job file, or a job folder, and give its recipe; afterwards its folder is forgotten.

    ``offered`` are the arguments that a recipe function may name. As for a script, the file's
    folder comes first on ``sys.path``.

    Raises:
        ConfigError: no such file or folder, it raises, or it has no recipe.
    """
    file = path.absolute()
    if file.is_dir():
        before = list(sys.path)
        try:
            yield _of_folder(path, offered)
        finally:
            sys.path[:] = before
        return
    _check(path, file)
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        yield _recipe_of(path, _run(path, file), offered)
    finally:
        sys.path.remove(folder)
        sys.modules.pop(JOB_MODULE, None)


def _of_folder(path: Path, offered: Mapping[str, object]) -> Recipe:
    if "alpha" in offered:
        raise ConfigError("alpha", str(path), "a job folder has no alpha", "leave it out")
    return Recipe.load(path)


def _check(path: Path, file: Path) -> None:
    if not file.is_file():
        hint = "give the path of a Python file or of a job folder"
        raise ConfigError("job", str(path), "no such file", hint)
    if file.suffix != ".py":
        raise ConfigError("job", str(path), "is no Python file", "its name must end in .py")


def _run(path: Path, file: Path) -> ModuleType:
    try:
        module = load_job_file(file)
    except ConfigError as exc:
        note(exc, place_of_error(exc))
        raise  # already names the value and what to do
    except (Exception, SystemExit) as exc:
        raise ConfigError("job", str(path), f"loading it failed: {_last_line(path, exc)}") from exc
    if module is None:
        raise ConfigError("job", str(path), "cannot be loaded as Python")
    return module


def _last_line(path: Path, error: BaseException) -> str:
    said = traceback.format_exception_only(error)[-1].strip()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == path.name
    ]
    return f"{said} (line {lines[-1]})" if lines else said


def _recipe_of(path: Path, module: ModuleType, offered: Mapping[str, object]) -> Recipe:
    if not hasattr(module, "recipe"):
        raise ConfigError("job", str(path), "has no recipe", EXAMPLE)
    found = module.recipe
    if isinstance(found, type) or not (isinstance(found, Recipe) or callable(found)):
        raise _wrong(path, found)
    if not isinstance(found, Recipe):
        found = _called(path, found, offered)
    elif "alpha" in offered:
        raise _no_alpha(path)
    if not isinstance(found, Recipe):
        raise _wrong(path, found)
    return found


def _called(path: Path, function: Callable[..., object], offered: Mapping[str, object]) -> object:
    names = inspect.signature(function).parameters
    if "alpha" in offered and "alpha" not in names:
        raise _no_alpha(path)
    arguments = {name: offered[name] for name in OFFERED if name in offered and name in names}
    try:
        return function(**arguments)
    except ConfigError as exc:
        note(exc, place_of_error(exc))
        raise
    except Exception as exc:
        raise ConfigError("job", str(path), f"recipe() failed: {_last_line(path, exc)}") from exc


def _wrong(path: Path, found: object) -> ConfigError:
    kind = found.__name__ if isinstance(found, type) else type(found).__name__
    return ConfigError("job", str(path), f"its recipe is {kind}, not a Recipe", EXAMPLE)


def _no_alpha(path: Path) -> ConfigError:
    return ConfigError(
        "alpha", str(path), "this job has no alpha", "write def recipe(alpha): ... or leave it out"
    )
