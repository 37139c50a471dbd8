"""Federations whose sites may reach each other, and what tests do with them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest

from flare_async.errors import ChannelReset
from flare_async.roles.at_home import at_home
from flare_async.roles.cohort import Cohort
from flare_async.roles.granted import granted
from flare_async.roles.peer_messages import PEER_SCHEMA, PEER_TOPIC, PeerOpen
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.session import OpenOptions
from tests.roles.federation import MODEL, Seen, Trains, federation, values
from tests.roles.tree import tree

NAMES = ("a", "b", "c")
JOB = "job"


def workers(**changed):
    """Return a worker a site, each with another step and weight."""
    return {"a": Trains(1), "b": Trains(2, weight=3), "c": Trains(4), **changed}


@asynccontextmanager
async def peers(made_of=None, *, names=NAMES, **options):
    """Yield a federation whose sites were granted each other."""
    async with (
        federation(made_of or workers(), **options) as made,
        granted(made.server, JOB, names),
    ):
        yield made


@asynccontextmanager
async def peers_below(relays, below, **options):
    """Yield a tree whose sites were granted each other."""
    names = [name for _, name in below]
    async with tree(relays, below, **options) as made, granted(made.server, JOB, names):
        yield made


async def met(made, at, names=NAMES):
    """Return a site's server to its peers, when it knows all of them."""
    found = made.clients[at].peers
    await until(
        lambda: found.server(JOB) is not None and len(found.server(JOB).sites) >= len(names) - 1
    )
    return found.server(JOB)


async def until(condition):
    """Wait until something holds; what never does is ended by virtual time."""
    with anyio.fail_after(60):
        while not condition():
            await asyncio.sleep(0.01)


async def peer_round(server, names=NAMES, **options):
    """Run a round of one site's with its peers; return what it saw and the mean."""
    seen, task = Seen(), RoundTask(JOB, 0, 3)
    cohort = Cohort(server, list(names), seen)
    with WeightedMean(MODEL, order=names) as mean:
        async with (
            at_home(server),
            cohort.round(
                task, MODEL, reducer=mean, weigh=lambda site, meta: meta["weight"], **options
            ) as updates,
        ):
            [_ async for _ in updates]
            return seen, values(mean.finish())


async def refusal(channel):
    """Return the error of a channel that should not be answered."""
    with pytest.raises(ChannelReset) as caught:
        await channel.receive()
    return caught.value


def claim(via, destination, *, origin="", key="key", hops=9, job=JOB, topic=PULL_TOPIC):
    """Open a channel to a site as anybody may write it down, and return it."""
    header = PULL_SCHEMA.encode(PullRequest(key, "", 0, 0))
    wrapped = PEER_SCHEMA.encode(PeerOpen(job, origin, topic, header))
    options = OpenOptions(destination=destination, hops=hops, end=True)
    return via.open(PEER_TOPIC, wrapped, options)
