"""What a virtual run leaves: history, events, what passed over each link, what memory was held."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flare_async.jobs.events import (
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    SiteFinished,
    SiteStarted,
)
from flare_async.jobs.history import History
from flare_async.jobs.run import Run
from flare_async.testing.lane import Host
from flare_async.transfer.tensors import TensorSet

__all__ = ["Events", "Held", "VirtualRun"]


@dataclass(frozen=True, slots=True)
class Held:
    """The most bytes that a role has held at a time, by the counters of its own budgets.

    ``credit`` is what it has granted to its peers' senders, ``staged`` updates that wait to be
    added, ``spilled`` what of these went to a file (all of them together), ``cached`` chunks.
    """

    credit: int = 0
    staged: int = 0
    spilled: int = 0
    cached: int = 0

    @property
    def memory(self) -> int:
        """What is in memory: at most so much, as the peaks need not be at one time."""
        return self.credit + self.staged + self.cached


@dataclass(frozen=True, slots=True)
class VirtualRun:
    """A run that has ended, in ``seconds`` of virtual time.

    ``hosts`` counts what has passed, by host: a site has one link, so these are its link's.
    ``held`` are the server and the relays. ``files`` are those of the run folder, which is gone;
    of models of which only sizes count they have the headers. ``trace_hash`` covers every event
    with its second, and every host's counters: two runs of a seed have the same. ``step_hash``
    covers every step of every task, where ``VirtualSetting.trace`` asks for it.
    """

    run: Run
    seconds: float
    events: Sequence[tuple[float, RunEvent]]
    hosts: Mapping[str, Host]
    held: Mapping[str, Held]
    files: Mapping[str, bytes]
    trace_hash: str
    step_hash: str = ""

    @property
    def history(self) -> History:
        """The rounds, with every site's part."""
        return self.run.history

    @property
    def model(self) -> TensorSet | None:
        """The last global model."""
        return self.run.model

    @property
    def frames(self) -> int:
        """The frames that have arrived anywhere."""
        return sum(host.frames_in for host in self.hosts.values())


@dataclass(slots=True)
class Events:
    """The events of a run as they come, each with its second.

    What a message has of the run's ``folder`` is no part of the hash: it is another one each time.
    """

    folder: Path
    seen: list[tuple[float, RunEvent]] = field(default_factory=list)

    def hash(self, hosts: Mapping[str, Host]) -> str:
        """Return SHA-256 over the events, and over what has passed."""
        digest = hashlib.sha256()
        for when, event in self.seen:
            digest.update(f"{when.hex()} {self._told(event)}\n".encode())
        for name, host in hosts.items():
            counts = f"{host.frames_in} {host.frames_out} {host.bytes_in} {host.bytes_out}"
            digest.update(f"{name} {counts}\n".encode())
        return digest.hexdigest()

    def _told(self, event: RunEvent) -> str:
        return told(event).replace(str(self.folder), "")


def told(event: RunEvent) -> str:
    """Return what the trace has of an event: names and numbers that the seed decides."""
    kind = type(event).__name__
    match event:
        case SiteStarted(number, site):
            return f"{kind} {number} {site}"
        case SiteFinished(number, record):
            numbers = f"{record.status} {record.bytes_down} {record.bytes_up}"
            return f"{kind} {number} {record.site} {numbers} {record.ended.hex()}"
        case RoundStarted(number, task, sites):
            return f"{kind} {number} {task} {len(sites)}"
        case RoundFinished(record):
            return f"{kind} {record.number} {record.arrived} {record.ended.hex()}"
        case RunFinished(status, cause):
            return f"{kind} {status} {cause}"
        case _:
            return kind
