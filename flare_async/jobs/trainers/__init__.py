"""Training scripts in processes of their own, below their client and supervised by it.

A trainer talks to its client over a unix socket: small messages, and tensors in nameless files
whose descriptors travel beside them. The client pulls a model straight into such a file and serves
a result straight out of one, so it holds neither. ``spawner`` is the client's side, ``desk`` the
script's, ``supervisor`` the program between the two.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.jobs.trainers.desk import open_desk
    from flare_async.jobs.trainers.spawner import TrainerProcesses

__all__ = ["TrainerProcesses", "open_desk"]

# Imported on first use: a script imports this package too, and needs only the desk.
_MODULES = {
    "TrainerProcesses": "flare_async.jobs.trainers.spawner",
    "open_desk": "flare_async.jobs.trainers.desk",
}

if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a name on its first use (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
