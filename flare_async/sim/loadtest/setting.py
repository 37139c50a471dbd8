"""What a load test does, and what one process of its clients is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Final, Self

from flare_async.limits import Limits

__all__ = ["PATIENCE", "Behaviour", "Hosting", "LoadSetting", "load_limits", "site_name"]

HELLO: Final = 60.0  # thousands say it at once; who gives up and comes again makes more of them
PATIENCE: Final = 300.0  # processes that share cores are slow to begin, and that is no loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What clients do; shares are between 0 and 1, times are seconds."""

    train_time: float = 0.0
    slow: float = 0.0  # of the sites: they take longer by
    slow_time: float = 1.0
    drop: float = 0.0  # of the tasks: the link is cut while they are worked on
    fail: float = 0.0  # of the tasks
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSetting:
    """One load test."""

    clients: int
    rounds: int
    nbytes: int
    address: str  # where the server listens
    processes: int = 2  # the server's included; 1 hosts the clients in the server's process
    away: bool = False  # hosts on other machines bring all clients
    quorum: float = 1.0  # of the clients
    deadline: float | None = None
    certificates: str = ""  # a folder; empty without TLS
    behaviour: Behaviour = field(default_factory=Behaviour)

    @property
    def names(self) -> tuple[str, ...]:
        """All clients' names."""
        return tuple(site_name(number) for number in range(1, self.clients + 1))

    @property
    def connections(self) -> int:
        """How many connections the server's process has: both ends where it hosts the clients."""
        return 2 * self.clients if self.alone else self.clients

    @property
    def alone(self) -> bool:
        """Whether the server's process hosts the clients."""
        return self.processes == 1

    def hostings(self, address: str) -> list[Hosting]:
        """Return an equal part of the clients for each process beside the server's."""
        if self.away:
            return []
        hosts = max(1, self.processes - 1)
        bounds = [1 + self.clients * at // hosts for at in range(hosts + 1)]
        parts = pairwise(bounds)
        whole = Hosting(address=address, first=1, count=1, behaviour=self.behaviour)
        whole = replace(whole, certificates=self.certificates)
        return [replace(whole, first=low, count=high - low) for low, high in parts if high > low]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """The clients of one process: ``count`` of them from number ``first`` on."""

    address: str
    first: int
    count: int
    certificates: str = ""
    behaviour: Behaviour = field(default_factory=Behaviour)

    def encoded(self) -> str:
        """Return it as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Self:
        """Return what ``encoded`` wrote."""
        fields = json.loads(text)
        behaviour = Behaviour(**fields.pop("behaviour"))
        return cls(**fields, behaviour=behaviour)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its clients."""
        return tuple(site_name(number) for number in range(self.first, self.first + self.count))


def site_name(number: int) -> str:
    """Return the name of a client."""
    return f"site-{number}"


def load_limits(clients: int) -> Limits:
    """Return limits under which so many clients from one address, all at once, are no attack."""
    limits = Limits()
    return replace(
        limits,
        handshake_timeout=HELLO,
        handshakes=max(limits.handshakes, clients),
        sessions=max(limits.sessions, 2 * clients),
        start_timeout=PATIENCE,
        stall_timeout=PATIENCE,
    )
