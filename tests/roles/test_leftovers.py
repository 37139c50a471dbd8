"""Channels of tasks that are over: whatever a site does with them, they do not pile up."""

from __future__ import annotations

import anyio
import pytest

from flare_async.net.messages import LENGTH
from flare_async.roles.messages import TASK_SCHEMA
from flare_async.roles.stream import KEPT
from tests.roles.federation import SCHEMES, Trains, federation, settle
from tests.roles.rogue import Rogue, joined, metrics_only, round_of, tasks_open, until_the_end

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


def test_a_message_after_the_result_breaks_the_protocol(sim, scheme):
    """The channel is reset, so nothing unread keeps it open."""

    async def twice(stream):
        body = TASK_SCHEMA.encode(metrics_only())
        stream.channel.send_soon(2 * (LENGTH.pack(len(body)) + body))  # in one frame
        await stream.receive()

    rogue = Rogue(twice)

    async def main():
        async with federation({"a": Trains()}, scheme=scheme) as made, joined(made, rogue):
            await round_of(made, ["rogue", "a"], quorum=1)
            await settle()
            return made.seen.records[0, "rogue"], tasks_open(made)

    record, left = sim(main)
    assert (record.status, left, rogue.resets) == ("failed", 0, ["unexpected"])
    assert "a message after its result" in record.reason


def test_a_message_after_the_receipt_costs_the_channel_and_not_the_update(sim, scheme):
    """What was admitted stays, whatever its site says later."""

    async def again_later(stream):
        stream.tell(metrics_only())
        await until_the_end(stream)
        stream.tell(metrics_only())
        await anyio.sleep_forever()

    async def main():
        async with federation({}, scheme=scheme) as made, joined(made, Rogue(again_later)):
            left = []
            for _ in range(3):
                assert await round_of(made, ["rogue"]) == ["rogue"]
                await settle()
                left.append(tasks_open(made))
                made.seen.records.clear()
            return left

    assert sim(main) == [1, 1, 1]


def test_a_site_that_never_ends_its_tasks_keeps_only_a_few_channels(sim, scheme):
    """All but the latest are reset when it gets its next task."""

    async def never_ends(stream):
        stream.tell(metrics_only())
        await until_the_end(stream)
        await stream.channel.session.new_future()

    async def main():
        async with federation({}, scheme=scheme) as made, joined(made, Rogue(never_ends)):
            for _ in range(3 * KEPT):
                await round_of(made, ["rogue"])
                await settle()
                made.seen.records.clear()
            return tasks_open(made)

    assert sim(main) == KEPT + 1


def test_a_site_that_ends_its_task_late_ends_it_in_order(sim, scheme):
    """Its next task does not disturb it."""

    async def late(stream):
        stream.tell(metrics_only())
        await until_the_end(stream)
        await anyio.sleep(60)
        ends.append(stream.channel.is_open)
        stream.finish()

    ends, rogue = [], Rogue(late)

    async def main():
        async with federation({}, scheme=scheme) as made, joined(made, rogue):
            for _ in range(KEPT):
                await round_of(made, ["rogue"])
                made.seen.records.clear()
            await anyio.sleep(100)
            return tasks_open(made)

    assert sim(main) == 0
    assert (ends, rogue.resets) == ([True] * KEPT, [])
