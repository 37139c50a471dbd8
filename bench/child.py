"""A process of a bench, as its parent sees it: a line of JSON down, a line of JSON back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeAlias

__all__ = ["Child", "Message", "run_child"]

Message: TypeAlias = Mapping[str, str | float]


def run_child(module: str, setting: Message) -> dict[str, float]:
    """Run ``python -m module SETTING`` to its end and return the figures that it prints.

    Waits for ever: a bench lasts as long as it lasts.

    Raises:
        subprocess.CalledProcessError: it failed; its messages went to standard error.
    """
    command = [sys.executable, "-m", module, json.dumps(setting)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


class Child:
    """A process that answers commands as long as the block lasts."""

    def __init__(self, module: str, setting: Message) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End its input, which ends the process; by force when something went wrong."""
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def tell(self, command: str) -> None:
        """Send a command."""
        if self._process.stdin is not None:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, str | float]:
        """Wait for ever for an answer.

        Raises:
            ChildProcessError: the process has ended instead; its messages say why.
        """
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{self._module} ended with {self._process.wait()}")
        answer: dict[str, str | float] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, str | float]:
        """Send a command and wait for its answer; raises as ``hear`` does."""
        self.tell(command)
        return self.hear()

    def wait_until_stopped(self) -> None:
        """Wait for ever until the process has stopped itself by a signal."""
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """Let a stopped process go on."""
        self._process.send_signal(signal.SIGCONT)
