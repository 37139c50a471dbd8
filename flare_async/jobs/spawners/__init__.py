"""Where user code runs: on the loop, in threads, in processes.

All three take the same steps (``flare_async.jobs.training``) with the same seeds, so the same task
gives the same bits everywhere. A spawner is an async context manager with ``slots`` and
``run(task)``; callers beyond the slots wait in the order in which they came. Cancelling a run frees
its slot even where the code cannot be stopped: an inline coroutine is cancelled, a thread is
abandoned, a process is killed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.jobs.spawners.inline import InlineSpawner
    from flare_async.jobs.spawners.process import ProcessSpawner
    from flare_async.jobs.spawners.thread import ThreadSpawner

__all__ = ["InlineSpawner", "ProcessSpawner", "ThreadSpawner"]

# Imported on first use: a worker process imports this package too, and starts faster without.
_MODULES = {
    "InlineSpawner": "flare_async.jobs.spawners.inline",
    "ProcessSpawner": "flare_async.jobs.spawners.process",
    "ThreadSpawner": "flare_async.jobs.spawners.thread",
}

if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a spawner on its first use (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
