"""Safeguards of the product that a test can switch off, to see that the simulation misses them.

Each is a method, or a number, of the product's own code that is replaced while a block lasts, by
name: the product has no switch that anybody could find. The scenarios know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from flare_async.net import heartbeat, watchdog
from flare_async.net.attachment import Attachment
from flare_async.net.backoff import Backoff
from flare_async.net.continuity import Continuity
from flare_async.net.flow import Arrival, Flow
from flare_async.net.reception import Reception
from flare_async.net.watchdog import Watchdog
from flare_async.roles.client import Client
from flare_async.roles.directory import Directory
from flare_async.roles.lease import Lease
from flare_async.roles.messages import COMMITTED, Receipt
from flare_async.roles.outcome import SiteStatus
from flare_async.roles.round import Updates
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.tensor_pull import TensorPull
from flare_async.wire.channel import ChannelState
from flare_async.wire.outbox import Outbox
from flare_async.wire.resume import Rejoining
from flare_async.wire.windows import ReceiveWindow

__all__ = ["ABLATIONS", "Ablation"]


@dataclass(frozen=True)
class Ablation:
    """A safeguard that is switched off in the block ``off()``, and the scenario that misses it."""

    name: str
    about: str
    scenario: str
    changes: tuple[tuple[object, str, object], ...]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch it off while the block lasts."""
        with ExitStack() as stack:
            for owner, name, value in self.changes:
                former = vars(owner)[name]  # a seam that is gone is an error here
                stack.callback(setattr, owner, name, former)
                setattr(owner, name, value)
            yield


def nothing(*_: object, **__: object) -> None:
    """Do nothing in place of something."""


def returns(value: object) -> Callable[..., object]:
    """Return what gives ``value``, whatever it is asked."""
    return lambda *_, **__: value


async def finish_unverified(self: TensorPull) -> None:
    """Take a tensor as it came."""
    try:
        await self._finished()
    except BaseException:
        self.cancel()
        raise
    if self._hasher is not None:
        self._fetching.digests[self.spec.name] = self._hasher.digest()


async def wait_for_nothing(self: Client, stream, state: str) -> None:
    """Let go of an update as soon as it was told."""


def take_bulk_first(self: Outbox, budget: int, frame_bytes: int, take=Outbox.take) -> list:
    """Let control wait as long as there is bulk."""
    held = self._control if self._bulk else None
    if held is None:
        return take(self, budget, frame_bytes)
    self._control = None
    frames = take(self, budget, frame_bytes)
    self._control = held if self._control is None else held + self._control
    return frames


def pause_in_step(self: Backoff) -> float:
    """Wait exactly as long as everybody else."""
    bound = self.bound
    self.tries += 1
    return bound


def note_but_late(self: Updates, record, note=Updates._note) -> None:
    """Say nothing of those who are late."""
    if record.status is not SiteStatus.LATE:
        note(self, record)


def note_again(self: Updates, record) -> None:
    """Say how a site ended each time that anything ends."""
    self.records[record.site] = record
    self._setting.observer.site_finished(self._setting.task.number, record)


def find_for_anybody(self: Shelf, channel, key: str, find=Shelf._find):
    """Let everybody read who has heard of an offer."""
    offer = self._offers.get(key)
    return find(self, channel, key) if offer is None else offer


def arrive_committed(self: Lease, update, arrive=Lease.arrive):
    """Say that an update is committed when it has only come."""
    record = arrive(self, update)
    if self._exchange is not None and self._exchange.stream is not None:
        self._exchange.stream.tell(Receipt(COMMITTED))
    return record


def exit_committing(self: Updates, kind, exc, tb, leave=Updates.__exit__) -> None:
    """Commit a round that was given up."""
    self.commit()
    leave(self, kind, exc, tb)


def arrive_anywhere(self: ReceiveWindow, offset: int, nbytes: int) -> None:
    """Count bytes without looking at the limit."""
    self.received = offset + nbytes


ABLATIONS = (
    Ablation(
        "digest",
        "what was pulled is compared with the owner's digest",
        "damage",
        ((TensorPull, "finish", finish_unverified),),
    ),
    Ablation(
        "resume offset",
        "a new link goes on at the last byte that arrived",
        "cuts",
        ((ChannelState, "rewind", nothing),),
    ),
    Ablation(
        "tombstones",
        "a new link tells how channels ended that the peer has open",
        "cuts",
        ((Rejoining, "_last_words", returns([])),),
    ),
    Ablation(
        "priority lane",
        "control leaves ahead of bulk",
        "slow",
        ((Outbox, "take", take_bulk_first),),
    ),
    Ablation(
        "heartbeat",
        "a link that is silent for three beats is lost",
        "damage",
        ((Attachment, "_silent", nothing),),
    ),
    Ablation(
        "backoff",
        "tries that fail are repeated after a pause",
        "crashes",
        ((Backoff, "pause", returns(0.0)),),
    ),
    Ablation(
        "full jitter",
        "those who failed together do not come back together",
        "crashes",
        ((Backoff, "pause", pause_in_step),),
    ),
    Ablation(
        "session fence",
        "a site's newer session ends its older one",
        "crashes",
        ((Directory, "_fence", nothing),),
    ),
    Ablation(
        "session grace",
        "a session without a link ends after its grace",
        "crashes",
        ((Continuity, "_expire", nothing),),
    ),
    Ablation(
        "late recording",
        "whoever is too late is recorded as late",
        "late",
        ((Updates, "_note", note_but_late),),
    ),
    Ablation(
        "lease revoke",
        "a task that is taken back resets its channel",
        "late",
        ((Lease, "_reset", nothing),),
    ),
    Ablation(
        "lag credit",
        "the time in which this process stood still is nobody else's silence",
        "slow",
        ((heartbeat, "LAG_SECONDS", math.inf), (watchdog, "LAG_SECONDS", math.inf)),
    ),
    Ablation(
        "progress rule",
        "a transfer that moves is not stalled, however long it takes",
        "slow",
        ((Arrival, "feed", nothing), (Flow, "feed", nothing)),
    ),
    Ablation(
        "keep until committed",
        "a site keeps its update on offer until its receipt",
        "jitter",
        ((Client, "_wait_for", wait_for_nothing),),
    ),
    Ablation(
        "two receipts",
        "an update that came is not committed before the round is durable",
        "crashes",
        ((Lease, "arrive", arrive_committed),),
    ),
    Ablation(
        "give up takes back",
        "a round that is given up commits nothing",
        "late",
        ((Updates, "__exit__", exit_committing),),
    ),
    Ablation(
        "offers end",
        "an offer ends with its block",
        "jitter",
        ((Shelf, "withdraw", nothing),),
    ),
    Ablation(
        "credit returned",
        "a channel that ends gives its credit back",
        "cuts",
        ((ReceiveWindow, "finish", nothing),),
    ),
    Ablation(
        "admission",
        "values that are no numbers are refused",
        "late",
        ((MeanGate, "checking", returns(())),),
    ),
    Ablation(
        "ends once",
        "a site's part of a round ends once",
        "late",
        ((Updates, "_note", note_again),),
    ),
    Ablation(
        "assignee check",
        "only those who are asked may pull",
        "hostile",
        ((Shelf, "_find", find_for_anybody),),
    ),
    Ablation(
        "window check",
        "bytes beyond the credit end the session",
        "hostile",
        ((ReceiveWindow, "arrive", arrive_anywhere),),
    ),
    Ablation(
        "watchdog",
        "a wait without progress ends",
        "hostile",
        ((Watchdog, "_fire", nothing),),
    ),
    Ablation(
        "link epoch",
        "a hello that was heard before takes nobody's session",
        "hostile",
        ((Reception, "_may_resume", returns(True)),),
    ),
)
