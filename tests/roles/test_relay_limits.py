"""What a relay refuses and what it keeps: kinds of links, hostile parents, nothing piles up."""

from __future__ import annotations

import dataclasses

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, Dismissed, FlareError
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    PARTIAL_TOPIC,
    PartialTask,
    Take,
)
from flare_async.roles.relay import Relay
from flare_async.testing.loop import run_sim
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.transports.memory import MemoryTransport
from tests.roles.federation import Trains
from tests.roles.tree import ONE, joined, tree

SMALL = TensorSet.from_params(
    {f"w{n}": np.random.default_rng(n).random(50_000, np.float32) for n in range(64)}
)


class Both:
    """A simulated network beside links of memory."""

    def __init__(self, network):
        self.network, self.memory = network, MemoryTransport(Limits())

    def _of(self, address):
        return self.memory if address.startswith("memory") else self.network

    async def connect(self, address):
        """Connect by the address's scheme."""
        return await self._of(address).connect(address)

    async def listen(self, address):
        """Listen by the address's scheme."""
        return await self._of(address).listen(address)


@pytest.mark.parametrize(
    ("parent", "listen"), [("memory://s", "sim://r"), ("sim://s", "memory://r")]
)
def test_a_relay_between_memory_and_bytes_is_refused_before_it_listens(sim, parent, listen):
    """References below would be views of buffers that are used again."""

    async def main():
        async with tree({}, {}) as made:
            with pytest.raises(ConfigError) as caught:
                await Relay(made.context, "r1").run(parent, listen)
            return caught.value.field

    assert sim(main) == "listen"


def test_a_site_over_memory_that_came_before_the_parent_over_bytes_is_sent_away(sim):
    """It never gets bytes that nobody has verified, and that change under its hands."""

    async def main():
        async with tree({}, {}) as made, made.server.shelf.offer(SMALL) as offer:
            network = Both(made.network)
            relay = Relay(dataclasses.replace(made.context, network=network), "r1")
            async with relay.listen("memory://below") as below:
                made.network = network
                async with joined(made, "a", below) as session:
                    made.start(relay.run, "sim://server", "sim://r1")
                    with pytest.raises(Dismissed, match="not both"):
                        await anext(session)
                    with pytest.raises(FlareError):
                        await made.context.downloader.fetch(session, offer.ref, MemorySink())
            return list(made.server.sites), relay.sites

    assert sim(main) == ([], {})


rules = st.builds(
    SumRules,
    st.none() | st.text(max_size=8),
    st.none() | st.text(max_size=8) | st.just("("),
    st.none() | st.floats(),
    st.none() | st.integers(-(2**40), 2**40),
    st.integers(-5, 2**40),
)
refs = st.builds(
    TensorRef,
    st.text(max_size=4),
    st.text(max_size=40),
    st.integers(-2, 9),
    st.binary(max_size=33),
    st.integers(-9, 2**62),
)
takes = st.builds(
    Take, st.sampled_from("ab"), st.integers(-1, 3), st.floats(), st.text(max_size=5), refs
)


async def hostile(task, said):
    """Have a parent ask a relay for a sum; return whether the relay still serves."""
    async with tree(ONE, {("r1", "a"): Trains()}, mode="reduce") as made:
        async with made.server.shelf.offer(SMALL) as offer:
            if task.model.owner == "s":
                task = dataclasses.replace(task, model=offer.ref)
            session = made.server.directory.relays["r1"]
            channel = session.open(PARTIAL_TOPIC, PARTIAL_TASK_SCHEMA.encode(task))
            messages = Messages(channel, PARTIAL_SCHEMA)
            try:
                for message in said:
                    messages.post(message)
                with anyio.move_on_after(30):
                    while True:
                        await messages.receive()
            except (FlareError, anyio.EndOfStream):
                pass
            channel.reset()
        _, model = await made.play()
        return model is not None


tasks = st.builds(
    PartialTask,
    st.text(max_size=3),
    st.integers(-1, 3),
    st.integers(-1, 3),
    st.lists(st.sampled_from("aab"), max_size=3).map(tuple),
    refs | st.just(TensorRef("s", "", 0, b"", 0)),
    rules | st.just(SumRules(None, None, None, None, 2)),
)


@settings(max_examples=40, deadline=None)
@given(tasks, st.lists(takes, max_size=3))
def test_whatever_a_parent_asks_for_the_relay_goes_on(task, said):
    """Rules that cannot be, sites twice, kinds of nothing: that sum is given up, no other."""
    assert run_sim(lambda: hostile(task, said))


def test_a_kind_of_update_that_is_none_ends_that_sum_only(sim):
    """The relay's other work does not hear of it."""
    task = PartialTask(
        "j", 0, 0, ("a",), TensorRef("s", "", 0, b"", 0), SumRules(None, None, None, None, 1)
    )
    ref = TensorRef("a", "00" * 16, 0, b"\0" * 32, 12)
    assert sim(lambda: hostile(task, [Take("a", 0, 1.0, "HALF", ref)]))
