"""Roles in processes that are going to be killed: ``python -m ... NAME ARGUMENT...``.

They say what they have reached in lines.
"""

import asyncio
import sys

import numpy as np

from flare_async.jobs.site import SiteInfo
from flare_async.jobs.site_worker import SiteWorker
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from flare_async.roles.round import RoundTask
from flare_async.transfer.tensors import TensorSet
from tests.faults.real_child import KILLED, NOWHERE
from tests.faults.real_world import until, world
from tests.jobs.trainers.helpers import Spawner, script_of

LIMITS = Limits(**KILLED | {"start_timeout": 3.0, "shutdown_timeout": 0.5})
MODEL = TensorSet.from_params({"w": np.arange(4, dtype=np.float32)})


async def site(name, address, *words):
    """Be a site with a script in a process, until the server is gone."""
    async with (
        Spawner(limits=LIMITS) as spawner,
        world((), Transports(LIMITS), LIMITS, address=NOWHERE, seed=name) as made,
    ):
        worker = SiteWorker(Work(script=script_of(*words)), SiteInfo(name=name), spawner)
        made.start(name, worker, address=address)
        print("started", flush=True)
        await until(lambda: made.left.get(name) not in {None, "running"}, seconds=60.0)
    print("over", flush=True)


async def server(name):
    """Run a round with one site, which lives elsewhere."""
    async with world((name,), Transports(LIMITS), LIMITS, address=NOWHERE) as made:
        print(made.address, flush=True)
        await made.server.wait_for((name,), 1)
        async with made.cohort.round(RoundTask("job", 0, 1), MODEL) as updates:
            async for _ in updates:
                pass


if __name__ == "__main__":
    asyncio.run({"site": site, "server": server}[sys.argv[1]](*sys.argv[2:]))
