"""What the command line of a load test asks for, and which of it contradicts itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

__all__ = ["SECURE", "Asked", "checked"]

SECURE: Final = {"tcp": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}  # with TLS, by scheme
OF_THE_SERVER: Final = (
    "rounds", "model_size", "transport", "processes", "listen", "quorum", "deadline", "workspace",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options, as they were given."""

    clients: int
    rounds: int
    model_size: float
    transport: str
    processes: int
    listen: str | None
    join: str | None
    first: int
    certificates: Path | None
    train_time: float
    slow: float
    slow_time: float
    drop: float
    fail: float
    quorum: float | None
    deadline: float | None
    seed: int
    workspace: Path
    as_json: bool

    @property
    def scheme(self) -> str:
        """The transport that is used, whichever option says so."""
        address = self.join or self.listen
        return self.transport if address is None else address.partition(":")[0]


def checked(asked: Asked, given: Collection[str], *, tls: bool) -> Asked:
    """Return what is asked for, with the transport that ``--tls`` makes of it.

    ``given`` has the names of the options that the command line has.

    Raises:
        click.UsageError: one of them would have no effect, or the opposite of what it says.
    """
    if asked.join is not None:
        idle = [name for name in OF_THE_SERVER if name in given]
        _refuse(idle, "is the server's to say, and goes without --join")
    elif "first" in given:
        _refuse(["first"], "goes with --join")
    if asked.listen is not None and "transport" in given and asked.transport != asked.scheme:
        raise click.UsageError(f"--transport {asked.transport} is not that of {asked.listen}")
    if not tls:
        return asked
    wanted = SECURE.get(asked.scheme)
    address = asked.join or asked.listen
    if wanted is None or (address is not None and asked.scheme != wanted):
        raise click.UsageError(f"--tls: {address or asked.scheme} has no TLS")
    return asked if address is not None else replace(asked, transport=wanted)


def _refuse(names: Collection[str], why: str) -> None:
    for name in names:
        raise click.UsageError(f"--{name.replace('_', '-')} {why}")
