"""A federation of the real roles on simulated ports, which plays rounds and gathers evidence.

Theory of operation. ``Federation(setting).run()`` is one run: hosts with the real ``Server``,
``Relay`` and ``Client`` on one ``SimNetwork``, a small task whose result can be computed without
them, and a server that keeps each round on a ``SimDisk`` before it commits it, so that it may die
and go on. All that invariants need is taken note of by the observers that a product's user has too
(a worker, a round's observer, a network, a disk) and by two subclasses that listen in.

A site's update is whole numbers that depend on every bit of the model, on the site and the round.
So weighted sums are exact in any order and grouping, the mean of any participants is known without
a network, and an update that is lost, doubled, torn or another site's shows in the model's bits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import TypedDict

import anyio
import numpy as np

from flare_async.errors import QuorumNotReached, StartFailed
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import Context
from flare_async.roles.relay import Relay
from flare_async.roles.round import RoundTask, Updates
from flare_async.roles.server import Server
from flare_async.testing.disk import SimDisk
from flare_async.testing.federation.actors import (
    Learner,
    WatchedClient,
    Watcher,
    brief,
    mean_of,
)
from flare_async.testing.federation.books import Books
from flare_async.testing.federation.evidence import Arrival, Evidence, Kept
from flare_async.testing.federation.incidents import Incident
from flare_async.testing.federation.journal import Journal
from flare_async.testing.federation.rogues import serve_as
from flare_async.testing.federation.setting import SERVER, Setting
from flare_async.testing.federation.watch import Watch
from flare_async.testing.federation.world import World
from flare_async.testing.story import describe_tasks
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["Federation"]

ROUND = "round-"
KEPT_ROUNDS = 4  # the older ones are deleted
TRIES = 4  # of a round, in safety mode: then the faults have won
PAUSE = 2.0


class GivenUp(Exception):
    """Whoever runs the rounds does not want this one any more."""


class Head(TypedDict):
    """What stands before a kept model."""

    number: int
    trial: int
    sites: list[tuple[str, float]]


class Federation:
    """One run of a setting; ``run`` it once, on a loop of its own.

    With ``books`` what is over is judged and forgotten while the run goes on.
    """

    def __init__(self, setting: Setting, books: Books | None = None) -> None:
        self.setting = setting
        self._books = books
        self.evidence = Evidence(setting)
        self._trials = 0
        self._over = anyio.Event()
        self._healed = anyio.Event()

    async def run(self) -> Evidence:
        """Play all rounds and return what was seen; the loop's horizon bounds it."""
        async with anyio.create_task_group() as tasks:
            self._world = world = World(self.evidence, tasks)
            self._disk = SimDisk(world.clock, world.random)
            dice = world.random.stream("journal")
            self._journal = Journal(self.setting.journal, self._disk, self.evidence, dice)
            self._watch = Watch(world)
            self._people()
            tasks.start_soon(self._watch.run, name="watch")
            for incident in self.setting.incidents:
                tasks.start_soon(self._happen, incident, name="incident")
            if self.setting.mode == "liveness":
                tasks.start_soon(self._heal, name="heal")
            await self._over.wait()
            self.evidence.finished = world.clock.now()
            await self._watch.settle()
            pending = asyncio.all_tasks() - {asyncio.current_task()}
            ordered = sorted(pending, key=lambda task: getattr(task, "number", 0))
            self.evidence.pending = describe_tasks(ordered)
            tasks.cancel_scope.cancel()
        return self.evidence

    def _people(self) -> None:
        setting, world = self.setting, self._world
        late = dict(setting.late)
        world.add(SERVER, self._serve, self._disk)
        for name in setting.relay_names:
            world.add(name, partial(self._relay, name))
        for name in setting.names:
            world.add(name, partial(self._site, name))
        for name in (SERVER, *setting.relay_names, *setting.names):
            world.start_at(name, late.get(name, 0.0))

    async def _happen(self, incident: Incident) -> None:
        await anyio.sleep(incident.at)
        await incident.happen(self._world)

    async def _heal(self) -> None:
        """End all that goes wrong, and have everybody back."""
        await anyio.sleep(self.setting.heal)
        self._world.network.heal()
        self._world.start_dead()
        self.evidence.healed = self._world.clock.now()
        self.evidence.tell(self.evidence.healed, "everything is healed")
        self._healed.set()

    # The hosts' lives

    async def _site(self, name: str, context: Context) -> None:
        address = f"sim://{self.setting.parent(name)}"
        rogue = dict(self.setting.rogues).get(name)
        if rogue is not None:
            await serve_as(rogue, context, name, address)
            return
        learner = Learner(name, self.evidence, context.random.stream("learner"))
        client = WatchedClient(context, learner)
        self._world.clients[name] = client
        await client.run(address)

    async def _relay(self, name: str, context: Context) -> None:
        relay = Relay(context, name, mode=self.setting.relay_mode)
        self._watch.relays[name] = relay
        await relay.run(f"sim://{SERVER}", f"sim://{name}")

    async def _serve(self, context: Context) -> None:
        server = self._world.server = self._watch.server = Server(context, SERVER)
        async with server.listen(f"sim://{SERVER}"):
            number, model = await self._load()
            while number < self.setting.rounds:
                if self.setting.mode == "liveness" and number == self.setting.rounds - 1:
                    await self._healed.wait()
                kept = await self._try(server, number, model)
                if kept is not None:
                    number, model = number + 1, kept
                elif self._lost():
                    break
                else:
                    await anyio.sleep(PAUSE)
            self._over.set()
            await anyio.sleep_forever()

    def _lost(self) -> bool:
        return self.setting.mode == "safety" and self._trials > TRIES * self.setting.rounds

    # Rounds

    async def _try(self, server: Server, number: int, model: TensorSet) -> TensorSet | None:
        """Play a round; return its model, or None if it did not come to one."""
        trial, self._trials = self._trials, self._trials + 1
        evidence, clock = self.evidence, self._world.clock
        healed = evidence.healed is not None
        watcher = Watcher(evidence, trial)
        cohort = Cohort(server, self.setting.names, watcher, self.setting.window)
        sites = cohort.choose(number, self.setting.size, self.setting.over_select)
        honest = len(set(sites) - set(dict(self.setting.rogues)))
        needed = honest if healed else self.setting.quorum or self.setting.size or len(sites)
        with_all = self.setting.steady >= set(sites)
        try:
            await server.wait_for(sites, len(sites) if with_all else needed)
        except StartFailed as exc:
            evidence.tell(clock.now(), f"round {number} cannot begin: {exc}")
            return None
        evidence.given[number, trial] = brief(model)
        evidence.tell(clock.now(), f"round {number} try {trial} begins")
        end = "kept"
        try:
            return await self._round(cohort, (number, trial), model, (sites, needed))
        except (QuorumNotReached, GivenUp) as exc:
            end = type(exc).__name__
            evidence.tell(clock.now(), f"round {number} try {trial}: {end} {exc}")
            return None
        finally:
            evidence.ended[number, trial] = end

    async def _round(
        self,
        cohort: Cohort,
        which: tuple[int, int],
        model: TensorSet,
        who: tuple[Sequence[str], int],
    ) -> TensorSet:
        (number, trial), (sites, quorum), setting = which, who, self.setting
        task = RoundTask("job", number, setting.rounds, meta={"trial": trial})
        healed = self.evidence.healed is not None
        options = MeanOptions(exact=setting.relay_mode == "reduce")
        with WeightedMean(model, order=sites, limits=setting.limits, options=options) as mean:
            async with cohort.round(
                task,
                model,
                quorum=quorum,
                deadline=None if healed else setting.deadline,
                size=None if healed or setting.size is None else min(setting.size, len(sites)),
                sites=sites,
                reducer=mean,
                weigh=lambda _, meta: float(meta["weight"] or 0),
            ) as updates:
                await self._take(updates, number, trial)
                made = mean.finish()
                taken = mean.statistics.sites
                await self._keep(number, trial, taken, model, made)
        return made

    async def _take(self, updates: Updates, number: int, trial: int) -> None:
        evidence = self.evidence
        async for site, update in updates:
            origin = update.meta.get("origin")
            evidence.arrivals.append(Arrival(number, trial, site, origin))
            evidence.tell(self._world.clock.now(), f"round {number}: {site} has brought its update")
            self._journal.note(number, site, self._world.contexts[SERVER].tasks)
            if self._world.give_up:
                self._world.give_up = False
                raise GivenUp

    # What the server's disk has

    async def _keep(
        self,
        number: int,
        trial: int,
        sites: tuple[tuple[str, float], ...],
        before: TensorSet,
        after: TensorSet,
    ) -> None:
        """Make a round durable; only then may its sites be told that it is committed."""
        head = json.dumps({"number": number, "trial": trial, "sites": sites}).encode()
        data = [head, b"\n", *(bytes(view) for view in after.values())]
        await self._disk.write(f"{ROUND}{number:06d}", data)
        self._disk.remove(f"{ROUND}{number - KEPT_ROUNDS:06d}")
        expected = brief(mean_of(before, sites, number)) if sites else ""
        self.evidence.kept.append(Kept(number, trial, sites, brief(before), brief(after), expected))
        self.evidence.tell(self._world.clock.now(), f"round {number} try {trial} is kept")
        if self._books is not None:
            self._books.kept(self.evidence, number)

    async def _load(self) -> tuple[int, TensorSet]:
        """Return the number of the next round and its model, as the disk has them."""
        model, number = first_model(self.setting.values), -1
        for name in sorted(name for name in self._disk.files if name.startswith(ROUND)):
            head, _, rest = (await self._disk.read(name)).partition(b"\n")
            before, model = model, model_from(model, rest)
            told: Head = json.loads(head)
            number = told["number"]
            self._note_loaded(told, before, model)
        return number + 1, model

    def _note_loaded(self, head: Head, before: TensorSet, after: TensorSet) -> None:
        """Take note of a round that became durable in the very moment in which the server died."""
        number, trial = head["number"], head["trial"]
        noted = {(kept.number, kept.trial) for kept in self.evidence.kept}
        if (number, trial) in noted or number < max((one for one, _ in noted), default=0):
            return
        sites = tuple((site, weight) for site, weight in head["sites"])
        expected = brief(mean_of(before, sites, number))
        self.evidence.kept.append(Kept(number, trial, sites, brief(before), brief(after), expected))


def first_model(values: int) -> TensorSet:
    """Return the model that everything begins with: a long tensor and a short one."""
    return TensorSet.from_params(
        {"a": np.arange(values - 7, dtype=np.float32), "b": np.ones(7, dtype=np.float32)}
    )


def model_from(like: TensorSet, data: bytes) -> TensorSet:
    """Return a model whose tensors lie one after the other in ``data``."""
    params, at = {}, 0
    for name, array in like.numpy().items():
        params[name] = np.frombuffer(data, np.float32, array.size, at).reshape(array.shape)
        at += array.nbytes
    return TensorSet.from_params(params)
