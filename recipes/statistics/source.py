"""How a site gets a generator of its own: the class, named for another process, and its arguments.

The class is found in the file that the submitter's process has it from. A class without such a file
stays an object, and the error for what cannot travel is the one of any training function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.jobs.jobfile import load_job_file
from flare_async.recipes.statistics.generator import Statistics

__all__ = ["Kind", "check_methods", "kind_of", "made"]

Kind: TypeAlias = Mapping[str, str] | type[Statistics]


def kind_of(generator: object) -> Kind:
    """Return where the class of a generator is, or the class itself where no file has it.

    Raises:
        ConfigError: it is no generator.
    """
    if not isinstance(generator, Statistics):
        problem = "is no instance of a subclass of flare_async.recipes.statistics.Statistics"
        raise ConfigError("stats_generator", generator, problem)
    kind = type(generator)
    module = sys.modules.get(kind.__module__)
    if module is None or getattr(module, "__file__", None) is None:
        return kind
    if resolved(module, kind.__qualname__) is not kind:
        return kind
    path = str(Path(str(module.__file__)).absolute())
    return {"path": path, "qualname": kind.__qualname__, "package": module.__package__ or ""}


def check_methods(generator: Statistics, needed: Mapping[str, str]) -> None:
    """Refuse a generator without a method; ``needed`` has a statistic for each.

    Raises:
        ConfigError: one is missing.
    """
    for method, statistic in needed.items():
        if getattr(type(generator), method) is getattr(Statistics, method):
            problem = f"has no method {method}, which {statistic!r} needs"
            raise ConfigError("stats_generator", type(generator).__name__, problem)


def made(kind: Kind, args: Sequence[object], keywords: Mapping[str, object]) -> Statistics:
    """Return a new generator, as the submitter made the given one.

    Raises:
        TensorFormatError: the file has no such class any more.
        BaseException: whatever the user's file or class raises.
    """
    if isinstance(kind, type):
        return kind(*args, **keywords)
    found = found_in(kind)
    if not isinstance(found, type) or not issubclass(found, Statistics):
        raise TensorFormatError(f"{kind['path']} has no generator {kind['qualname']}")
    return found(*args, **keywords)


def found_in(kind: Mapping[str, str]) -> object:
    """Return the class, of the file as this process has loaded it already or loads it now."""
    for module in list(sys.modules.values()):
        if is_of(module, kind["path"]):
            known = resolved(module, kind["qualname"])
            if known is not None:
                return known
    loaded = load_job_file(kind["path"], kind["package"])
    return None if loaded is None else resolved(loaded, kind["qualname"])


def is_of(module: object, path: str) -> bool:
    """Return whether a module was made of a file; without waking one that loads lazily."""
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return isinstance(file, str) and str(Path(file).absolute()) == path


def resolved(module: ModuleType, qualname: str) -> object:
    """Return what a module calls so; None where there is nothing."""
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
