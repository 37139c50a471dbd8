"""What a recipe asks a site to do, and how that code is named for another process."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from flare_async.errors import ConfigError
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.site import Plain, Site, plain
from flare_async.model import FLModel, ParamsType

__all__ = [
    "JOB_MODULE",
    "JOB_PACKAGE",
    "CodeReference",
    "EvaluateFunction",
    "Framework",
    "TrainFunction",
    "Work",
    "code_of",
    "inside_worker",
    "is_async",
    "package_of",
]

TrainFunction: TypeAlias = Callable[[FLModel, Site], FLModel | Awaitable[FLModel]]
EvaluateFunction: TypeAlias = Callable[
    [FLModel, Site], Mapping[str, float] | Awaitable[Mapping[str, float]]
]
Framework: TypeAlias = Literal["numpy", "torch", "tensorflow"]

FRAMEWORKS: Final = ("numpy", "torch", "tensorflow")
JOB_MODULE: Final = "__flare_job__"  # the name under which a worker loads the user's file
JOB_PACKAGE: Final = "flare_job_"  # begins the name that a job folder's modules have around theirs
REMEDY: Final = "define it with def at the top of a .py file, or run it inline or in threads"


@dataclass(frozen=True, slots=True)
class Work:
    """What a site does: its functions or its script, the framework of their params, its options.

    ``train`` is a function, ``script`` a file that calls ``flare_async.client``: one of them.
    ``evaluate`` returns metrics of the model as it came; ``num_examples`` among them is their
    weight. With ``transfer`` DIFF a site sends what it changed. A process that does nothing but
    train gives memory back after ``memory_gc_rounds`` (0 is never, None as ``is_due`` says).

    Raises:
        ConfigError: there is not exactly one of function and script, a function cannot be called,
            or the framework is unknown.
    """

    train: TrainFunction | None = None
    framework: Framework = "numpy"
    evaluate: EvaluateFunction | None = None
    config: Mapping[str, Plain] = field(default_factory=dict)
    transfer: ParamsType = ParamsType.FULL
    memory_gc_rounds: int | None = None
    script: Script | None = None

    def __post_init__(self) -> None:
        if self.script is not None:
            self._check_script()
        elif not callable(self.train):
            raise ConfigError("train", self.train, "is no function (model, site) -> FLModel")
        if self.evaluate is not None and not callable(self.evaluate):
            raise ConfigError("evaluate", self.evaluate, "is no function (model, site) -> metrics")
        if self.framework not in FRAMEWORKS:
            raise ConfigError("framework", self.framework, f"use one of {', '.join(FRAMEWORKS)}")

    def _check_script(self) -> None:
        for name in ("train", "evaluate"):
            if getattr(self, name) is not None:
                problem = "a script has no functions beside it"
                hint = "let the script evaluate what it receives, or give functions only"
                raise ConfigError(name, getattr(self, name), problem, hint)


@dataclass(frozen=True, slots=True)
class CodeReference:
    """A function as another process of this machine finds it: a file, and its name in there.

    ``package`` is the package that the file belongs to, so that its relative imports work;
    ``args`` and ``keywords`` are those of a ``functools.partial``.
    """

    path: str
    qualname: str
    package: str = ""
    args: tuple[Plain, ...] = ()
    keywords: Mapping[str, Plain] = field(default_factory=dict)


def inside_worker() -> bool:
    """Say whether this process is a worker that loads, or has loaded, a user's job file.

    A job file that starts its run without ``if __name__ == "__main__":`` would otherwise start
    another run in every worker.
    """
    return JOB_MODULE in sys.modules


def is_async(train: TrainFunction | EvaluateFunction) -> bool:
    """Say whether calling ``train`` gives a coroutine, seen from its definition."""
    function: object = train
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an instance with async __call__
    )


def code_of(train: TrainFunction | EvaluateFunction) -> CodeReference:
    """Name the file and the function, for a worker that loads the file by its path.

    Raises:
        ConfigError: another process could not find the function, or not call it with the same
            arguments; the hint says what to do.
    """
    args: tuple[Plain, ...] = ()
    keywords: dict[str, Plain] = {}
    function: object = train
    if isinstance(train, functools.partial):
        function = train.func
        args = tuple(_argument(f"train.args[{at}]", value) for at, value in enumerate(train.args))
        keywords = {key: _argument(f"train.{key}", value) for key, value in train.keywords.items()}
    if not isinstance(function, types.FunctionType):
        raise ConfigError(
            "train", train, f"{type(function).__name__} cannot run in another process", REMEDY
        )
    path, package = _home_of(function)
    return CodeReference(path, function.__qualname__, package, args, keywords)


def _argument(field_name: str, value: object) -> Plain:
    if isinstance(value, tuple):
        raise ConfigError(field_name, value, "a tuple would arrive as a list", "use a list")
    return plain(field_name, value)


def _home_of(function: types.FunctionType) -> tuple[str, str]:
    name = function.__qualname__
    if "<" in name:
        kind = "a lambda" if name.endswith("<lambda>") else "defined inside a function"
        raise ConfigError("train", name, f"{kind}: another process cannot find it", REMEDY)
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        raise ConfigError(
            "train",
            name,
            f"module {function.__module__} has no file (interactive session?)",
            REMEDY,
        )
    if _resolved(module, name) is not function:
        raise ConfigError(
            "train", name, f"is not what {file} calls so (decorated or redefined?)", REMEDY
        )
    return str(Path(file).absolute()), package_of(module)


def package_of(module: types.ModuleType) -> str:
    """Return the package of a module as its file knows it, also where a job folder is around it."""
    package = module.__package__ or ""
    outermost, _, inner = package.partition(".")
    return inner if outermost.startswith(JOB_PACKAGE) else package


def _resolved(module: types.ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
