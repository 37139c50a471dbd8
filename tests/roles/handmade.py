"""A relay that adds, made by hand: it has one site, and passes on what a test likes."""

from __future__ import annotations

import contextlib

import anyio

from flare_async.limits import Limits
from flare_async.net.lobby import FORWARDED
from flare_async.net.messages import Messages
from flare_async.roles.announcer import Announcer
from flare_async.roles.messages import OFFER_SCHEMA, TaskResult
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    PARTIAL_TOPIC,
    REDUCES,
    Contributor,
    PartialReady,
    Pass,
    Take,
    Taken,
)
from flare_async.roles.stream import TaskStream
from flare_async.transfer.pull import PULL_TOPIC
from tests.roles.federation import MODEL
from tests.roles.tree import joined


class HandMade:
    """A relay ``name`` with the site ``site``, whose update is the model itself.

    ``say(messages, task, mine)`` is called when its sum is asked for, with what it has taken;
    ``deaf`` ends every sum as soon as it is asked to begin one; ``seconds`` is how long it takes.
    """

    def __init__(self, made, address, site, say=None, *, deaf=False, seconds=0.0):
        self.made, self.address, self.site, self.name = made, address, site, "r9"
        self.say, self.deaf, self.seconds = say or (lambda *_: None), deaf, seconds
        self.epochs, self.tasks, self.heard = [], 0, []
        self.shelf = made.context.shelf(self.name)
        self.held = self.shelf.put(MODEL)

    async def run(self):
        """Serve until the test ends."""
        async with joined(self.made, self.name, self.address, "relay") as session:
            self.shelf.attach(session)
            announcer = Announcer(self.name, REDUCES)
            announcer.attach(session)
            announcer.site_joined(self.site, ())
            session.serve(FORWARDED, self.forwarded)
            async for channel in session:
                assert channel.topic == PARTIAL_TOPIC
                self.made.context.tasks.start_soon(self.sum, channel)

    def forwarded(self, channel):
        """Answer the site's task at once, and who pulls its update."""
        if channel.topic == PULL_TOPIC:
            self.shelf.answer(channel)
            return
        self.tasks += 1
        OFFER_SCHEMA.decode(channel.header, Limits())
        TaskStream(channel).post(TaskResult(self.held.ref, "FULL", {}, {"weight": 1.0}, 0.1))

    async def sum(self, channel):
        """Take, and pass on what the test likes."""
        task = PARTIAL_TASK_SCHEMA.decode(channel.header, Limits())
        self.epochs.append(task.epoch)
        if self.deaf:
            channel.reset()
            return
        messages = Messages(channel, PARTIAL_SCHEMA)
        mine = []
        with contextlib.suppress(Exception):
            while True:
                self.heard.append(message := await messages.receive())
                match message:
                    case Take(site, attempt, weight):
                        await anyio.sleep(self.seconds)
                        mine.append(Contributor(site, attempt, weight))
                        messages.post(Taken(site))
                    case Pass():
                        self.say(messages, task, mine)

    def ready(self, task, contributors):
        """Return the message that offers the held model as the sum of these."""
        return PartialReady(task.epoch, self.held.ref, tuple(contributors))
