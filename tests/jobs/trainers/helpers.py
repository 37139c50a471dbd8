"""What the tests of trainers share: a model, tasks, a spawner that remembers what was printed."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import numpy as np

from flare_async.jobs.scripts.script import Script
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.trainers.spawner import TrainerProcesses
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.transfer.tensors import TensorSet

SCRIPT = Path(__file__).with_name("script.py")
MODEL = TensorSet.from_params({"w": np.arange(4, dtype=np.float32), "n": np.array(3)})
LIMITS = Limits(shutdown_timeout=0.5, trainer_idle_timeout=30.0)
HASTY = Limits(trainer_idle_timeout=1.0, shutdown_timeout=0.3, heartbeat_interval=1.0)
GONE_WITHIN = 15.0  # bounds a wait on a machine that does much else


def script_of(*words, **options):
    """Return the script of ``script.py`` with these arguments."""
    args = " ".join(map(str, words))
    # It looks for its file, which must not happen on a loop.
    with ThreadPoolExecutor(1) as pool:
        made = partial(Script, path=SCRIPT, args=args, external=True, **options)
        return pool.submit(made).result()


def task_of(script, *, round_number=0, tensors=MODEL, name="site-1", **options):
    """Return a task for the script."""
    site = SiteInfo(name=name, round_number=round_number, total_rounds=3, job_id="job")
    kept = {key: options.pop(key) for key in ("kind", "log", "meta") if key in options}
    return TrainTask(Work(script=script, **options), tensors, site, **kept)


class Spawner(TrainerProcesses):
    """Keeps the lines that scripts print."""

    def __init__(self, slots=2, limits=LIMITS):
        self.lines = []
        super().__init__(slots, limits=limits, show=lambda _, line: self.lines.append(line))


def numbers(outcome):
    """Return an outcome's tensor ``w``."""
    return outcome.tensors.numpy()["w"].tolist()


def is_alive(pid):
    """Return whether a process exists and is no zombie."""
    with suppress(OSError, IndexError):
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return state not in {b"Z", b"X"}
    return False


async def until(condition, seconds=GONE_WITHIN):
    """Wait until a condition holds."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.02)


async def written(path, seconds=GONE_WITHIN):
    """Return the text of a file as soon as it has one."""
    await until(lambda: path.exists() and path.read_text(), seconds)
    return path.read_text()


def open_files():
    """Return how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def seconds_since(began):
    """Return how much time has passed."""
    return time.monotonic() - began
