"""The user's files, run by their paths: a job file, the code of a job folder, a training script.

One of three places that import by name; the path comes from whoever submits, never from a peer.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.work import JOB_MODULE

__all__ = ["OURS", "ScriptCode", "UserCode", "load_job_file", "our_module"]

# What a job folder may name a class of: the names in these modules' ``__all__``.
OURS: Final = (
    "flare_async.recipes",
    "flare_async.recipes.schedules",
    "flare_async.recipes.server_optimizers",
    "flare_async.recipes.statistics",
    "flare_async.transfer.filters",
)


class ScriptCode:
    """A training script, compiled once for every site that runs it.

    Raises:
        OSError: the file cannot be read.
        SyntaxError: it is no Python.
    """

    __slots__ = ("_code", "_path")

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._code = compile(path.read_bytes(), self._path, "exec", dont_inherit=True)

    def run(self) -> None:
        """Run it as a program with a namespace of its own.

        ``sys.modules["__main__"]`` stays what it is: others in this process need it.

        Raises:
            BaseException: whatever the script raises.
        """
        module = ModuleType("__main__")
        module.__file__ = self._path
        exec(self._code, module.__dict__)


def load_job_file(path: Path | str, package: str = "") -> ModuleType | None:
    """Run the file as a module and return it; None where Python cannot load such a file.

    While it runs, and until the caller removes it, the module is in ``sys.modules`` under
    ``JOB_MODULE``; inside the name of its ``package`` too, so that its relative imports work.

    Raises:
        BaseException: whatever the file itself raises.
    """
    name = f"{package}.{JOB_MODULE}" if package else JOB_MODULE
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = sys.modules[JOB_MODULE] = module
    spec.loader.exec_module(module)
    return module


class UserCode:
    """Modules of one job folder, each run once.

    Unlike a job file they stay loaded, under names of their own: what they define lives as long as
    the recipe. Their folders come first on ``sys.path``, as a script's does, and stay there.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Path, ModuleType] = {}

    def module(self, path: Path, package: str = "") -> ModuleType:
        """Return the module of a file.

        Raises:
            ConfigError: it raises, or is no Python file.
        """
        if path not in self._known:
            root = path.parent
            for _ in package.split(".") if package else ():
                root = root.parent
            if str(root) not in sys.path:
                sys.path.insert(0, str(root))
            with others_aside(root):
                self._known[path] = run_module(path, package)
        return self._known[path]


@contextmanager
def others_aside(root: Path) -> Iterator[None]:
    """Let the modules of a folder be imported, whatever else is loaded under their names."""
    own = {path.stem for path in root.iterdir()}
    aside: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name.partition(".")[0] in own and not file.startswith(f"{root}{os.sep}"):
            aside[name] = sys.modules.pop(name)
    try:
        yield
    finally:
        sys.modules.update(aside)


def run_module(path: Path, package: str) -> ModuleType:
    """Run a file as a module that stays in ``sys.modules``. Raises ConfigError."""
    state = path.stat()
    words = f"{path} {state.st_mtime_ns} {state.st_size}".encode()
    own = f"flare_job_{hashlib.sha256(words).hexdigest()[:16]}"
    name = f"{package}.{own}" if package else own
    if name in sys.modules:  # functions of a former recipe are looked for in there
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError("job", str(path), "is no Python file")
    module = importlib.util.module_from_spec(spec)
    # A script that would start its run, or export itself, is told not to, as in a worker.
    marked = JOB_MODULE not in sys.modules
    sys.modules[name] = module
    sys.modules.setdefault(JOB_MODULE, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        del sys.modules[name]
        if isinstance(exc, FlareError):
            raise
        raise ConfigError("job", str(path), f"loading it failed: {exc!r}") from exc
    finally:
        if marked:
            sys.modules.pop(JOB_MODULE, None)
    return module


def our_module(name: str) -> ModuleType:
    """Return one of the modules in ``OURS``; a name that is not there is a bug."""
    return importlib.import_module(OURS[OURS.index(name)])
