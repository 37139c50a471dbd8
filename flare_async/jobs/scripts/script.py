"""A training script as a recipe names it: a file, its arguments, and how it is run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError

__all__ = ["RLIMITS", "Script"]

# Bytes, but for seconds of processor time (cpu) and counts (nofile, nproc).
RLIMITS: Final = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A Python file that calls ``flare_async.client``; the default runs it in a thread.

    With ``external`` it is started as ``command path args`` in a process of its own: once for the
    whole job, or with ``launch_once=False`` once a task. When the job has ended the process may
    take ``shutdown_timeout`` seconds to end by itself before it is told to. ``environment`` is
    added to the scrubbed environment of that process; ``gpus`` are the devices that it may see;
    ``rlimits`` bound it and all that it starts, each by itself: names as in ``RLIMITS``.

    Raises:
        ConfigError: the file does not exist, or a value cannot be used.
    """

    path: Path
    args: str = ""
    external: bool = False
    command: str = "python3 -u"
    launch_once: bool = True
    shutdown_timeout: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] | None = None
    cuda_empty_cache: bool = False
    rlimits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            hint = "give a path that exists here, absolute or below the working directory"
            raise ConfigError("train_script", str(self.path), "there is no such file", hint)
        for name in ("args", "command"):
            self._words(name, getattr(self, name))
        if not self.command.strip():
            raise ConfigError("command", self.command, "is empty")
        if not _is_wait(self.shutdown_timeout):
            problem = "seconds from 0 on are needed"
            raise ConfigError("shutdown_timeout", self.shutdown_timeout, problem)
        for name, most in self.rlimits.items():
            if name not in RLIMITS or type(most) is not int or most < 0:
                problem = f"a whole number for one of {', '.join(RLIMITS)} is needed"
                raise ConfigError(f"rlimits.{name}", most, problem)

    def argv(self) -> list[str]:
        """Return what ``sys.argv`` is to be for the script."""
        return [str(self.path), *self._words("args", self.args)]

    def command_line(self) -> list[str]:
        """Return the words of the external process's command line."""
        return [*self._words("command", self.command), *self.argv()]

    def _words(self, name: str, text: str) -> list[str]:
        try:
            return shlex.split(text)
        except ValueError as exc:
            raise ConfigError(f"train_{name}", text, f"cannot be split into words: {exc}") from exc


def _is_wait(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf
