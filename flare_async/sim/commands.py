"""The commands beside a plain run: ``python -m flare_async.sim load`` and the like.

A command is a module that is imported when it is called. It has ``command``, a click command whose
result is ``run(results) -> int``: what it does, given where results go, and its exit status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from flare_async.sim.stdout import only_results

if TYPE_CHECKING:
    import click

__all__ = ["COMMANDS", "Doing", "run_named"]

Doing = Callable[[TextIO], int]


def _load() -> click.Command:
    from flare_async.sim.loadtest.command import command

    return command


def _what_if() -> click.Command:
    from flare_async.sim.virtual.command import command

    return command


def _fit_network() -> click.Command:
    from flare_async.sim.virtual.fit_command import command

    return command


def _hunt() -> click.Command:
    from flare_async.sim.hunt.command import command

    return command


COMMANDS: Final[Mapping[str, Callable[[], click.Command]]] = {
    "fit-network": _fit_network,
    "hunt": _hunt,
    "load": _load,
    "what-if": _what_if,
}


def run_named(arguments: Sequence[str]) -> int:
    """Do what the command does that the first argument names; return the exit status.

    Raises:
        click.ClickException: the arguments cannot be used.
        KeyboardInterrupt: interrupted.
    """
    name, *rest = arguments
    doing: Doing | int | None = COMMANDS[name]().main(
        args=rest, prog_name=f"python -m flare_async.sim {name}", standalone_mode=False
    )
    if doing is None or isinstance(doing, int):
        return 0  # --help was printed
    with only_results() as results:
        return doing(results)
