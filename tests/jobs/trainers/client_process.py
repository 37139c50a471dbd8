"""A client's process that is going to be killed: ``python client_process.py WORD...``.

It gives one task to the script that the words name and says where its runtime folder is.
"""

import asyncio
import sys

from flare_async.errors import TrainingFailed
from tests.jobs.trainers.helpers import Spawner, script_of, task_of


async def main(script):
    """Run until somebody ends this process."""
    async with Spawner() as spawner:
        print(spawner._lobby.address, flush=True)
        try:
            await spawner.run(task_of(script))
        except TrainingFailed as error:
            print(error.code, flush=True)


if __name__ == "__main__":
    asyncio.run(main(script_of(*sys.argv[1:])))
