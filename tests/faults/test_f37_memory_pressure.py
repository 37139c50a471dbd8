"""F37 with a real process: updates of twelve times the staging budget wait for their turn."""

from __future__ import annotations

import pytest

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.registry import Transports
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.faults.real_child import KILLED, PRESSED_KIB
from tests.faults.real_process import child
from tests.faults.real_world import model, until, world
from tests.roles.federation import Trains
from tests.transfer.helpers import adopt

STEPS = {"slow": 0.25, "s1": 0.1, "s2": 0.7, "s3": 0.3}
NBYTES = PRESSED_KIB * KIB
STAGING = 4 * MIB
WINDOWS = len(STEPS) * KILLED["link_bytes"]
SLACK = 12 * MIB  # the spool's buffers, frames, the interpreter's own
LIMITS = Limits(**KILLED | {"stall_timeout": 10.0})


class Last(Trains):
    """The first of the cohort; it answers when all other updates are at the server."""

    def __init__(self, step, made):
        super().__init__(step)
        self.made = made

    async def run(self, task):
        """Work when each other site has let go of its update."""
        others = [self.made.clients[name].shelf for name in STEPS if name != "slow"]
        await until(lambda: all(shelf._gone for shelf in others))
        return await super().run(task)


def expected():
    """Return the digest of the mean, made in memory."""
    start, options = model(PRESSED_KIB), MeanOptions(accumulator="float32")
    with WeightedMean(start, order=list(STEPS), options=options) as mean:
        for site, step in STEPS.items():
            array = (start.numpy()["w"] + step).astype("float32")
            adopt(mean.stage(site, 1.0), TensorSet.from_params({"w": array}))
            mean.commit(site)
        return mean.finish().model_digest()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.asyncio
async def test_f37_an_aggregator_under_pressure_keeps_its_memory_and_its_bits():
    """48 MiB wait while the first site is awaited: 4 in memory, the rest in the spool."""
    async with (
        child("aggregates", str(STAGING // MIB)) as server,
        world((), Transports(LIMITS), LIMITS, address="tcp://127.0.0.1:0") as made,
    ):
        [address] = await server.words()
        for name, step in STEPS.items():
            worker = Last(step, made) if name == "slow" else Trains(step)
            made.start(name, worker, address=address)
        assert await server.words() == ["4"]
        digest, *counts = await server.words()
    staged, spilled, grown = map(int, counts)
    assert digest == expected()
    assert staged <= STAGING
    assert spilled >= 3 * NBYTES - STAGING
    # The model, the sum, what is staged and under way; three updates more in memory would not fit.
    most = 2 * NBYTES + STAGING + WINDOWS + SLACK
    assert grown <= most < 5 * NBYTES
