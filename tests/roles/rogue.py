"""A site that speaks the protocol by hand, for what no client of ours would do."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.session import Session
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC, TaskResult
from flare_async.roles.round import RoundTask
from flare_async.roles.stream import TaskStream
from flare_async.transfer.pull import Printed, TensorRef
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.session import Side
from tests.roles.federation import MODEL


class Rogue:
    """Answers tasks with ``answer(stream)`` and pulls with a manifest of ``specs``."""

    def __init__(self, answer, specs=()):
        self.answer = answer
        self.printed = Printed.of(tuple(specs), {})
        self.offers, self.pulls, self.resets = [], [], []

    def result(self, nbytes=None):
        """Return a result that offers these specs, or says it has other bytes."""
        size = self.printed.nbytes if nbytes is None else nbytes
        ref = TensorRef("rogue", "key", 0, self.printed.digest, size)
        return TaskResult(ref, "FULL", {}, {"weight": 1.0}, 0.0)

    async def serve(self, made, name):
        """Connect and answer until the session ends."""
        link = await made.network.connect(made.address)
        endpoint = replace(made.context.endpoint(name, "client"), limits=Limits(carried_bytes=0))
        session = Session(link, Side.CONNECTOR, endpoint)
        async with session, anyio.create_task_group() as tasks:
            with suppress(FlareError):
                async for channel in session:
                    self._accept(made, channel, tasks)
            tasks.cancel_scope.cancel()

    def _accept(self, made, channel, tasks):
        if channel.topic == TASK_TOPIC:
            self.offers.append(OFFER_SCHEMA.decode(channel.header, made.context.limits))
            tasks.start_soon(self._one, TaskStream(channel))
        else:
            self.pulls.append(channel.topic)
            channel.send_soon(self.printed.data)
            channel.end()

    async def _one(self, stream):
        try:
            await self.answer(stream)
        except FlareError as exc:
            self.resets.append(exc.message)


@asynccontextmanager
async def joined(made, rogue, name="rogue"):
    """Have a rogue in the federation while the block lasts."""
    made.context.tasks.start_soon(rogue.serve, made, name)
    await made.server.wait_for([name], 1)
    yield rogue


def metrics_only():
    """Return a result without tensors."""
    return TaskResult(None, "FULL", {"a": 1.0}, {"weight": 1.0}, 0.0)


async def until_the_end(stream):
    """Read receipts until the server ends its side."""
    with suppress(anyio.EndOfStream):
        while True:
            await stream.receive()


def spec(*shape, name="w", dtype="F32"):
    """Return one tensor's name, type and shape."""
    return TensorSpec(name, dtype, shape)


async def says_metrics(stream):
    """Answer as a site does that was asked for metrics."""
    stream.tell(metrics_only())
    await until_the_end(stream)
    stream.finish()


async def round_of(made, sites, name="train", **options):
    """Run a round of these sites; return the sites whose updates came."""
    task = RoundTask("job", 0, 1, name)
    async with made.cohort.round(task, MODEL, sites=sites, **options) as updates:
        return [site async for site, _ in updates]


def tasks_open(made, site="rogue"):
    """Return how many channels of tasks the server has open to a site."""
    channels = made.server.sites[site].channels.values()
    return sum(channel.topic == TASK_TOPIC for channel in channels)
