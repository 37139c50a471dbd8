"""The user's job file, loaded by its path under one name, at the command line and in workers.

One of three places that import by name; the path comes from whoever submits, never from a peer.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from flare_async.jobs.work import JOB_MODULE

__all__ = ["load_job_file"]


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
