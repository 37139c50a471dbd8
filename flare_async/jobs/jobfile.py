"""The user's files, run by their paths: a job file, the code of a job folder, a training script.

One of three places that import by name; the path comes from whoever submits, never from a peer.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.places import code_root, has_module
from flare_async.jobs.work import JOB_MODULE, JOB_PACKAGE

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
    """Modules of one job folder, each run once; they live as long as the process.

    Nothing is put on ``sys.path``, and what a folder calls ``model`` is no ``model`` to others.
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
            if path.suffix != ".py":
                raise ConfigError("job", str(path), "is no Python file")
            self._known[path] = run_module(OwnImports.of(code_root(path, package)), path)
        return self._known[path]


class OwnImports(MetaPathFinder):
    """Imports among the files below a folder: they are one package, with a name of its own.

    ``import model`` in one of them, now or in a function that is called later, is answered with
    the folder's own ``model`` if it has one, else as everywhere. Other modules see none of it.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self._named: dict[str, Path] = {}

    @classmethod
    def of(cls, root: Path) -> OwnImports:
        """Return that of a folder, a new one when a file has changed since it was last loaded."""
        name = JOB_PACKAGE + digest_of(root)
        for finder in sys.meta_path:  # functions of a former recipe are looked for in there
            if isinstance(finder, cls) and finder.name == name:
                return finder
        made, package = cls(root, name), ModuleType(name)
        package.__path__ = [str(root)]
        sys.modules[name] = package
        sys.meta_path.insert(0, made)
        importlib.invalidate_caches()  # files that were written a moment ago
        return made

    def name_of(self, path: Path) -> str:
        """Return the name of a file's module; it may be one that no statement can import."""
        *above, last = path.relative_to(self.root).with_suffix("").parts
        plain = last.replace(".", "_")
        name = ".".join([self.name, *above, plain])
        if plain != last:
            self._named[name] = path
        return name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of this folder is; nothing about any other."""
        if not fullname.startswith(f"{self.name}."):
            return None
        if fullname in self._named:
            spec = importlib.util.spec_from_file_location(fullname, self._named[fullname])
        else:
            spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = LoaderOfOwn(fullname, spec.loader.path)
            spec.loader.imports = self
        return spec

    def import_module(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - as the interpreter calls it
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what an import statement says. Raises ImportError, or what the module raises."""
        top = name.partition(".")[0]
        if level or not has_module(self.root, top):
            return __import__(name, globals, locals, fromlist or (), level)
        found = importlib.import_module(f"{self.name}.{name}")
        if not fromlist:
            return sys.modules[f"{self.name}.{top}"]
        return __import__(found.__name__, globals, locals, fromlist)


class LoaderOfOwn(SourceFileLoader):
    """Runs a module whose import statements are answered by ``imports``."""

    imports: OwnImports

    def exec_module(self, module: ModuleType) -> None:
        """Run it. Raises what it raises."""
        own = {"__import__": self.imports.import_module}
        module.__dict__["__builtins__"] = vars(builtins) | own
        super().exec_module(module)


def digest_of(root: Path) -> str:
    """Return a name for the Python files below a folder as they are now."""
    found = hashlib.sha256(str(root).encode())
    for path in sorted(root.rglob("*.py")):
        state = path.stat()
        found.update(f"{path}\0{state.st_mtime_ns}\0{state.st_size}\0".encode())
    return found.hexdigest()[:16]


def run_module(imports: OwnImports, path: Path) -> ModuleType:
    """Run a file as a module of its folder. Raises ConfigError."""
    # A script that would start its run, or export itself, is told not to, as in a worker.
    marked = JOB_MODULE not in sys.modules
    sys.modules.setdefault(JOB_MODULE, sys.modules[imports.name])
    try:
        return importlib.import_module(imports.name_of(path))
    except FlareError:
        raise
    except (Exception, SystemExit) as exc:
        raise ConfigError("job", str(path), f"loading it failed: {exc!r}") from exc
    finally:
        if marked:
            sys.modules.pop(JOB_MODULE, None)


def our_module(name: str) -> ModuleType:
    """Return one of the modules in ``OURS``; a name that is not there is a bug."""
    return importlib.import_module(OURS[OURS.index(name)])
