"""F31: results from whoever was not asked, or was asked before: refused, whoever they claim to be.

What a site is comes from its link (S10), and a result travels on the channel of the task that the
server has opened to it: there is no field in which it could name another site, task or attempt.
"""

from __future__ import annotations

import dataclasses

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.errors import ChannelReset, FlareError
from flare_async.roles.messages import TASK_SCHEMA, TASK_TOPIC
from flare_async.roles.partial_messages import PARTIAL_TOPIC
from flare_async.roles.route_messages import ROUTES_TOPIC
from flare_async.transfer.digest import tensor_digest
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.hostile.answers import GOOD, Answers
from tests.roles.federation import MODEL, Trains, expected, federation, values
from tests.roles.handmade import HandMade
from tests.roles.rogue import Rogue, joined, metrics_only, round_of
from tests.roles.test_relay_reduce import play
from tests.roles.tree import joined as bare
from tests.roles.tree import tree


@pytest.mark.parametrize("topic", [TASK_TOPIC, PARTIAL_TOPIC, ROUTES_TOPIC, "result"])
@pytest.mark.parametrize("destination", ["", "a", "server"])
def test_f31_who_was_not_asked_cannot_bring_a_result(sim, topic, destination):
    """A site that opens a channel of its own for it, in the middle of a round, is refused."""
    good = Trains(1, seconds=10)

    async def brings(made):
        async with bare(made, "stray", made.address) as session:
            options = OpenOptions(destination=destination, hops=3 if destination else 0)
            channel = session.open(topic, TASK_SCHEMA.encode(metrics_only()), options)
            with pytest.raises(FlareError) as caught:
                await channel.receive()
            return caught.value

    async def main():
        async with federation({"a": good}, scheme="sim") as made:
            found = []

            async def stray():
                await good.began.wait()
                found.append(await brings(made))

            made.context.tasks.start_soon(stray)
            _, model = await made.play()
            return values(model), made.seen.status(), found

    model, status, [error] = sim(main)
    assert (model, status) == (expected((1, 1)), {"a": "ok"})
    assert not isinstance(error, ChannelReset) or error.reset_code in {
        ResetCode.REFUSED,
        ResetCode.UNREACHABLE,
    }


class Borrows(Answers):
    """A site that says its result is what another site has on its shelf."""

    def __init__(self, keys):
        super().__init__([GOOD], tensor_digest(memoryview(GOOD)))
        self.keys = keys

    async def posts(self, stream):
        """Answer the task with a reference to somebody else's update."""
        ref = dataclasses.replace(self.result().update, owner="a", key=self.keys()[0])
        stream.tell(dataclasses.replace(self.result(), update=ref))
        await anyio.sleep_forever()


def test_f31_a_reference_to_another_sites_update_is_asked_of_who_gave_it(sim):
    """The server pulls from the link that the result came on, whatever owner it names."""

    async def main():
        async with federation({"a": Trains(3, weight=5.0)}, scheme="sim") as made:
            rogue = Borrows(lambda: [*made.clients["a"].shelf._offers, "none"])
            async with joined(made, rogue):
                served = await round_of(made, ["a", "rogue"])
                return sorted(served), {request.key for request in rogue.pulls}, rogue

    served, asked, _ = sim(main)
    assert served == ["a", "rogue"]
    assert len(asked) == 1, "both tensors of the round came from the site itself"


def test_f31_a_result_of_an_attempt_that_was_taken_over_touches_nothing(sim):
    """The older session has the older channel; both are gone when the newer one is there."""
    streams, newer = [], Trains(7, seconds=20)

    async def holds(stream):
        streams.append(stream)
        await anyio.sleep_forever()

    async def comes_back(made):
        while not streams:
            await anyio.sleep(0.1)
        await made.join("a", newer)

    async def main():
        async with federation({}, scheme="sim") as made, joined(made, Rogue(holds), "a"):
            made.context.tasks.start_soon(comes_back, made)
            with capture_logs() as logs:
                updates, model = await made.play(sites=("a",))
            fenced = [log["site"] for log in logs if log["event"] == "site_fenced"]
            return [update.metrics for update in updates], values(model), fenced

    assert sim(main) == ([{"step": 7}], expected((7, 1)), ["a"])
    with pytest.raises(FlareError, match="newer session"):
        streams[0].post(metrics_only())


def test_f31_a_sum_of_another_epoch_is_refused_whole_and_built_anew(sim):
    """It is logged with relay, epoch and sites; what was in it goes into the next sum, once."""

    async def main():
        async with tree({}, {("server", "b"): Trains(3)}) as made:

            def stale(messages, task, mine):
                other = dataclasses.replace(task, epoch=task.epoch or 7)
                messages.post(liar.ready(other, mine))

            liar = HandMade(made, made.address, "a", stale)
            made.context.tasks.start_soon(liar.run)
            await made.server.wait_for(["a", "b"], 2)
            made.cohort.sites = ("b", "a")
            with capture_logs() as logs:
                _, statistics, model = await play(made)
            lost = [log for log in logs if log["event"] == "sum_lost"]
            return values(model), statistics.sites, lost, liar.tasks

    model, sites, [lost], tasks = sim(main)
    assert model == expected((3, 1), (0, 1))
    assert sites == (("b", 1.0), ("a", 1.0))
    assert (lost["relay"], lost["epoch"], lost["sites"], tasks) == ("r9", 0, ("a",), 1)
    assert "a sum of epoch 7" in lost["problem"]
    assert values(MODEL) != model
