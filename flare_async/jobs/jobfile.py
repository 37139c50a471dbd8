"""The user's files, run by their paths: a job file under one name, a training script as a program.

One of three places that import by name; the path comes from whoever submits, never from a peer.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from flare_async.jobs.work import JOB_MODULE

__all__ = ["ScriptCode", "load_job_file"]


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
