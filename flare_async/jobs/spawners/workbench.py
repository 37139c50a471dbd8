"""What a worker in another process trains with: the user's files, the sites' states, the slots.

Worker processes and the actors of a cluster differ only in how an assignment and its tensors come
and go.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final, cast

from flare_async.errors import TrainingFailed
from flare_async.jobs.jobfile import load_job_file
from flare_async.jobs.places import code_root
from flare_async.jobs.seeding import seeded
from flare_async.jobs.site import SiteStates
from flare_async.jobs.spawners.messages import Assignment, Done, Failed
from flare_async.jobs.training import (
    TrainOutcome,
    TrainTask,
    call,
    conclude,
    failure_of,
    finish,
    prepare,
)
from flare_async.jobs.work import (
    JOB_MODULE,
    CodeReference,
    EvaluateFunction,
    TrainFunction,
    Work,
)
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.tensors import TensorSet

__all__ = ["Workbench", "load_function"]

MOST_RECORDS: Final = 10_000  # of one task; the oldest go first


class Workbench:
    """Trains one assignment after the other; the state of sites and loaded files stay."""

    def __init__(self) -> None:
        self._files: dict[str, ModuleType] = {}
        self._pool = SlotPool()
        self._states = SiteStates()
        self._records: deque[LogRecord] = deque(maxlen=MOST_RECORDS)

    def answer(
        self, assignment: Assignment, model: Callable[[], TensorSet]
    ) -> tuple[Done | Failed, TensorSet | None]:
        """Train once and return the answer and the update, which the next call writes over.

        ``model`` is called when the user's code has been found.
        """
        self._records.clear()
        try:
            outcome = self._train(assignment, model)
        except TrainingFailed as failed:
            return Failed(failed.problem, failed.details, tuple(self._records)), None
        answer = Done(
            params_type=outcome.params_type,
            metrics=outcome.metrics,
            meta=outcome.meta,
            seconds=outcome.seconds,
            aliases={} if outcome.tensors is None else outcome.tensors.aliases,
            records=tuple(self._records),
        )
        return answer, outcome.tensors

    def _train(self, assignment: Assignment, model: Callable[[], TensorSet]) -> TrainOutcome:
        info = assignment.site
        train = load_function(assignment.code, self._files, info.name)
        # Only one of the two functions is called, the one that the task is about.
        work = Work(train, assignment.framework, evaluate=cast("EvaluateFunction", train))
        log = self._records.append
        task = TrainTask(work, model(), info, assignment.meta, assignment.kind, log)
        received, site = prepare(task, self._pool, self._states.of(info))
        started = time.perf_counter()
        with seeded(site):
            result = call(task, received, site)
            if inspect.isawaitable(result):
                result = asyncio.run(finish(site.name, result))
        # The update is copied out next, which detaches it.
        seconds = time.perf_counter() - started
        return conclude(task, result, self._pool, seconds=seconds, detach=False)


def load_function(code: CodeReference, files: dict[str, ModuleType], site: str) -> TrainFunction:
    """Return the function, loading its file when it is not among ``files``.

    Raises:
        TrainingFailed: the file raised while it was loaded, or has no such function.
    """
    module = files.get(code.path)
    if module is None:
        module = _load(code, site)
        files[code.path] = module
    sys.modules[JOB_MODULE] = module
    found: object = module
    for part in code.qualname.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise TrainingFailed(site, f"{code.path} has no function {code.qualname}")
    return functools.partial(found, *code.args, **code.keywords)


def _load(code: CodeReference, site: str) -> ModuleType:
    root = str(code_root(Path(code.path), code.package))
    if root not in sys.path:  # a job folder's is on no path of the submitter's
        sys.path.insert(0, root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the submitter's process has shown them
            module = load_job_file(code.path, code.package)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - it is user code
        reason = failure_of(site, error)
    else:
        if module is None:
            raise TrainingFailed(site, f"{code.path} is no Python file")
        return module
    raise TrainingFailed(site, f"loading {code.path}: {reason.problem}", reason.details)
