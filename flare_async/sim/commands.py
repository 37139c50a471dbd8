"""The commands beside a plain run: ``python -m flare_async.sim load`` and the like.

A command is a module that is imported when it is called. It has ``command``, a click command whose
result is ``run(results) -> int``: what it does, given where results go, and its exit status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, TextIO

from flare_async.sim.stdout import only_results

if TYPE_CHECKING:
    import click

__all__ = ["COMMANDS", "Doing", "run_named"]

Doing = Callable[[TextIO], int]
COMMANDS: Final = {
    "load": "flare_async.sim.loadtest.command",
    "what-if": "flare_async.sim.virtual.command",
    "fit-network": "flare_async.sim.virtual.fit_command",
}


def run_named(arguments: Sequence[str]) -> int:
    """Do what the command does that the first argument names; return the exit status.

    Raises:
        click.ClickException: the arguments cannot be used.
        KeyboardInterrupt: interrupted.
    """
    name, *rest = arguments
    command: click.Command = import_module(COMMANDS[name]).command
    doing: Doing | int | None = command.main(
        args=rest, prog_name=f"python -m flare_async.sim {name}", standalone_mode=False
    )
    if doing is None or isinstance(doing, int):
        return 0  # --help was printed
    with only_results() as results:
        return doing(results)
