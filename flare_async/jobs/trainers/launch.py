"""What a trainer process is started with: its command, and an environment without our secrets."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flare_async.jobs.scripts.script import Script
from flare_async.jobs.spawners.handle import ROOT
from flare_async.jobs.trainers.desk import ADDRESS, TOKEN

__all__ = ["ALLOWED", "Launch", "is_allowed", "launch_of"]

PYTHONS: Final = frozenset({"python", "python3"})

# Exact names, beginnings (with a star at the end) and ends (with one at the beginning).
ALLOWED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "PYTHON*",
    "VIRTUAL_ENV",
    "CONDA_*",
    "LD_LIBRARY_PATH",
    "CUDA*",
    "NVIDIA*",
    "NCCL*",
    "GLOO*",
    "OMP*",
    "KMP_*",
    "MKL*",
    "OPENBLAS*",
    "TORCH*",
    "TF_*",
    "KERAS*",
    "XLA*",
    "JAX*",
    "HF_*",
    "TRANSFORMERS_*",
    "*_proxy",
    "SSL_CERT*",
    "MALLOC_*",
    "XDG_*",
    "WANDB_*",
    "MLFLOW_*",
)


@dataclass(frozen=True, slots=True)
class Launch:
    """One command and everything of the environment that it gets."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def is_allowed(name: str) -> bool:
    """Return whether a variable of the client's environment is passed on."""
    return any(_matches(name, entry) for entry in ALLOWED)


def _matches(name: str, entry: str) -> bool:
    if entry.endswith("*"):
        return name.startswith(entry[:-1])
    if entry.startswith("*"):
        return name.lower().endswith(entry[1:])
    return name == entry


def launch_of(
    script: Script, address: str, token: str, environ: Mapping[str, str] = os.environ
) -> Launch:
    """Return how to start a script that finds its client at ``address``.

    ``python`` and ``python3`` mean this very interpreter, whatever ``PATH`` says.
    """
    words = script.command_line()
    if words[0] in PYTHONS:
        words[0] = sys.executable
    environment = {name: value for name, value in environ.items() if is_allowed(name)}
    own = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(
        [own, *(entry for entry in environ.get("PATH", os.defpath).split(os.pathsep) if entry)]
    )
    # Sites of one machine share its cores, and one thread gives the same bits everywhere; whoever
    # sets the variable for the client, or for the script, has the last word.
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment["PYTHONPATH"] = os.pathsep.join(_import_path(environ.get("PYTHONPATH", "")))
    environment.update(script.environment)
    if script.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(script.gpus)
    environment |= {ADDRESS: address, TOKEN: token}
    return Launch(tuple(words), environment)


def _import_path(given: str) -> list[str]:
    """Return where we and the submitter's modules are found, without the interpreter's own."""
    own = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    zipped = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    entries = [ROOT, *given.split(os.pathsep), *(path or str(Path.cwd()) for path in sys.path)]
    found: dict[str, None] = {}
    for entry in entries:
        path = Path(entry)
        # Another interpreter may run the script: it has a library and packages of its own.
        foreign = path.name in {zipped, "lib-dynload"} or path.resolve() in own
        if entry and not foreign:
            found[str(path.absolute())] = None
    return list(found)
