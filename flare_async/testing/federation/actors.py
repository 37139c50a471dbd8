"""The product's roles as a federation under test has them: each tells what it sees."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field

import anyio
import numpy as np

from flare_async.errors import TrainingFailed
from flare_async.net.link import Link, Listener
from flare_async.net.session import Session
from flare_async.ports import Network
from flare_async.roles.client import Client, SiteResult, SiteTask
from flare_async.roles.context import Context
from flare_async.roles.messages import Receipt, Scalar, TaskMessage, TaskOffer
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.stream import TaskStream
from flare_async.testing.federation.evidence import Evidence, Got, Told
from flare_async.testing.federation.evidence import Receipt as Heard
from flare_async.transfer.tensors import TensorSet

__all__ = ["Learner", "WatchedClient", "WatchedNetwork", "Watcher", "brief", "mean_of", "update_of"]

PRIME = 997  # values of updates are below: their weighted sums are exact in any order


def brief(model: TensorSet) -> str:
    """Return enough of a model's digest to tell models apart."""
    return model.model_digest()[:16]


def update_of(model: TensorSet, site: str, number: int) -> dict[str, np.ndarray]:
    """Return what a site makes of a model: whole numbers that depend on all of it, and on who."""
    mark = zlib.crc32(f"{site} {number}".encode())
    for view in model.values():
        mark = zlib.crc32(view, mark)
    made = {}
    for name, array in model.numpy().items():
        values = (np.arange(array.size, dtype=np.int64) * 31 + mark) % PRIME
        made[name] = values.astype(np.float32).reshape(array.shape)
    return made


def weight_of(site: str) -> float:
    """Return the weight of a site: a small whole number."""
    return 1.0 + zlib.crc32(site.encode()) % 5


def mean_of(model: TensorSet, sites: tuple[tuple[str, float], ...], number: int) -> TensorSet:
    """Return the weighted mean of these sites' updates, with plain arithmetic and no federation."""
    total = sum(weight for _, weight in sites)
    sums = {name: np.zeros(a.shape) for name, a in model.numpy().items()}
    for site, weight in sites:
        for name, array in update_of(model, site, number).items():
            sums[name] += array.astype(np.float64) * weight
    return TensorSet.from_params({n: (s / total).astype(np.float32) for n, s in sums.items()})


@dataclass(slots=True)
class Learner:
    """A site's worker: takes some seconds, and sometimes fails or never ends."""

    site: str
    evidence: Evidence
    dice: random.Random

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task. Raises TrainingFailed."""
        setting, trial = self.evidence.setting, int(str(task.meta["trial"]))
        digest = brief(task.tensors)
        self.evidence.got.append(Got(task.round_number, trial, self.site, digest))
        await anyio.sleep(self.dice.uniform(*setting.seconds))
        if setting.unwell and self.dice.random() < setting.unwell:
            await self._fail()
        made = update_of(task.tensors, self.site, task.round_number)
        if self.site in setting.poisoned:
            next(iter(made.values())).flat[0] = np.nan
        meta: dict[str, Scalar] = {"weight": weight_of(self.site), "origin": self.site}
        return SiteResult(TensorSet.from_params(made), "FULL", {"loss": 1.0}, meta, 0.1)

    async def _fail(self) -> None:
        if self.dice.random() < 0.5:
            await anyio.sleep_forever()
        raise TrainingFailed(self.site, "no data today")


class HeardStream(TaskStream):
    """A task's messages, whose receipts are taken note of."""

    __slots__ = ("_evidence", "_offer", "_site")

    def __init__(self, stream: TaskStream, evidence: Evidence, site: str, offer: TaskOffer) -> None:
        super().__init__(stream.channel)
        self._evidence = evidence
        self._offer = offer
        self._site = site

    async def receive(self) -> TaskMessage:
        """Return the next message."""
        message = await super().receive()
        if isinstance(message, Receipt):
            offer = self._offer
            trial = int(str(offer.meta["trial"]))
            heard = Heard(offer.round_number, trial, self._site, message.state)
            self._evidence.receipts.append(heard)
        return message


class WatchedClient(Client):
    """A client that tells which receipts it gets, and lets its sessions be looked at."""

    def __init__(self, context: Context, learner: Learner) -> None:
        super().__init__(context, learner.site, learner)
        self.sessions: list[Session] = []
        self._evidence = learner.evidence

    async def _serve(self, session: Session) -> None:
        self.sessions.append(session)
        try:
            await super()._serve(session)
        finally:
            self.sessions.remove(session)

    async def _work(self, stream: TaskStream, offer: TaskOffer) -> None:
        await super()._work(HeardStream(stream, self._evidence, self.name, offer), offer)


@dataclass(slots=True)
class WatchedNetwork:
    """One host's network port, which counts connections."""

    inner: Network[Link, Listener]
    host: str
    context_of: Evidence

    async def connect(self, address: str) -> Link:
        """Connect as the host."""
        evidence = self.context_of
        evidence.dials.append((anyio.current_time(), self.host))
        link = await self.inner.connect(address)
        evidence.connects[self.host] += 1
        evidence.tell(anyio.current_time(), f"{self.host} connects to {address}")
        return link

    async def listen(self, address: str) -> Listener:
        """Listen as the host."""
        return await self.inner.listen(address)


@dataclass(slots=True)
class Watcher:
    """The observer of one try of a round."""

    evidence: Evidence
    trial: int
    records: dict[str, SiteRecord] = field(default_factory=dict)

    def site_started(self, number: int, site: str) -> None:
        """Take note that a site was asked."""
        self.evidence.asked.append((number, self.trial, site))

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Take note of how it ended."""
        over = (number, self.trial) in self.evidence.ended
        self.evidence.told.append(Told(number, self.trial, record, over))
        told = f"round {number} try {self.trial}: {record.site} {record.status} {record.code}"
        now = asyncio.get_running_loop().time()  # anyio could not tell in a callback with sniffio
        self.evidence.tell(now, told.rstrip())
        self.records[record.site] = record
