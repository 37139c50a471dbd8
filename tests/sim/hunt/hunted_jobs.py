"""Jobs that ``test_hunt.py`` hunts in: each is right or wrong in one way; ``WRONG`` says which."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio
import numpy as np

from flare_async import FLModel
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import Work
from flare_async.transfer import TensorSet

FIRST = {"w": np.zeros(20, np.float32)}


def train(model, site):
    """Add noise of the site's own."""
    noise = site.rng.normal(size=20).astype(np.float32)
    return FLModel(params={"w": model.params["w"] + noise})


@dataclass(kw_only=True, eq=False)
class Adding(Recipe):
    """Adds updates as they come; subclasses do something wrong."""

    name: str = "adding"
    min_clients: int = 5
    num_rounds: int = 2

    def work(self, site: str) -> Work:
        """Every site does the same."""
        return Work(train)

    async def coordinate(self, cohort: JobCohort) -> None:
        """Play all rounds."""
        model = TensorSet.from_params(FIRST).copy()
        for number in range(self.num_rounds):
            task = cohort.task(number, self.num_rounds)
            async with (
                cohort.recording(task, cohort.sites, self.min_clients),
                cohort.round(task, model, quorum=self.min_clients) as updates,
            ):
                model = await self.added(cohort, updates)
                await cohort.checkpoint(model, number + 1)

    async def added(self, cohort: JobCohort, updates) -> TensorSet:
        """Return the sum, in the order of the sites."""
        arrived = {}
        async for site, update in updates:
            arrived[site] = update.tensors.numpy()["w"].copy()
        return total([arrived[site] for site in cohort.sites if site in arrived])


class AsTheyCome(Adding):
    """Adds in the order of arrival, which changes the last bits."""

    async def added(self, cohort: JobCohort, updates) -> TensorSet:
        """Return the sum, in the order of arrival."""
        return total([update.tensors.numpy()["w"].copy() async for _, update in updates])


class ChecksThenAwaits(Adding):
    """Asks whether a site was counted, waits for its books, and then says that it was."""

    async def added(self, cohort: JobCohort, updates) -> TensorSet:
        """Hand every update in twice, as a repeated delivery does."""
        counted, kept = set(), []

        async def count(site, value) -> None:
            if site in counted:
                return
            await asyncio.to_thread(len, counted)
            counted.add(site)
            kept.append((cohort.sites.index(site), value))

        async with anyio.create_task_group() as group:
            async for site, update in updates:
                value = update.tensors.numpy()["w"].copy()
                group.start_soon(count, site, value)
                await asyncio.to_thread(len, kept)
                group.start_soon(count, site, value)
        return total([value for _, value in sorted(kept, key=lambda one: one[0])])


@dataclass(kw_only=True, eq=False)
class WaitsForAll(Adding):
    """Waits for an event that only a fifth update sets; with fewer it waits for ever."""

    min_clients: int = 4

    async def added(self, cohort: JobCohort, updates) -> TensorSet:
        """Return the sum once there are five."""
        found, full = [], asyncio.Event()
        async for _, update in updates:
            found.append(update.tensors.numpy()["w"].copy())
            if len(found) == len(cohort.sites):
                full.set()
        await full.wait()
        return total(sorted(found, key=lambda one: one.tobytes()))


def total(values: list[np.ndarray]) -> TensorSet:
    """Return the float32 sum, from the first to the last."""
    found = np.zeros(20, np.float32)
    for value in values:
        found = found + value
    return TensorSet.from_params({"w": found})
