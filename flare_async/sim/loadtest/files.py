"""How many files and sockets a process may have open."""

from __future__ import annotations

from typing import Final

from flare_async.errors import ConfigError

__all__ = ["raise_file_limit"]

SPARE: Final = 100


def raise_file_limit(connections: int) -> None:
    """Raise this process's own limit as far as the system lets it.

    Raises:
        ConfigError: that is too little for so many connections.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and connections + SPARE > hard:
        hint = "use more processes, or raise the limit with ulimit -n"
        problem = f"a process may open {hard} files, {connections + SPARE} are needed"
        raise ConfigError("connections", connections, problem, hint)
