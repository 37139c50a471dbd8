"""A desk without a client: tasks from a list, results into another."""

from __future__ import annotations

import numpy as np

from flare_async.errors import TrainingFailed
from flare_async.jobs.scripts.desk import Place, TaskFacts
from flare_async.model import FLModel


class ListDesk:
    """Keeps the rules of ``Desk``; the job has ended when the tasks are used up."""

    def __init__(self, *names, rank=0, late=()):
        self.place = Place("site-1", "job-7", rank, {"rate": 0.5, "sizes": (1, 2)})
        facts = enumerate(names, 1)
        self._tasks = [TaskFacts(n, name, n - 1, len(names)) for n, name in facts]
        self._late = list(late)  # numbers of tasks before which one wait finds nothing
        self._current = None
        self.results, self.records, self.taken, self.closed = [], [], 0, 0

    def wait(self, timeout=None):
        """Return the current task; on a follower each task once."""
        if self._current is not None and self.place.rank == 0:
            return self._current
        if not self._tasks:
            self._current = None
            return None
        if timeout is not None and self._tasks[0].number in self._late:
            self._late.remove(self._tasks[0].number)
            raise TimeoutError
        self._current = self._tasks.pop(0)
        return self._current

    def take(self, *, copy=True):
        """Return a new model."""
        self.taken += 1
        params = {"w": np.full(2, float(self._current.number))}
        params["w"].flags.writeable = copy
        return FLModel(params=params, current_round=self._current.round_number)

    def hand_in(self, model):
        """Keep the result, or refuse it."""
        if model.params is not None and "w" not in model.params:
            raise TrainingFailed("site-1", "no w")
        self._current = None
        self.results.append(model)

    def log(self, record):
        """Keep the record."""
        self.records.append(record)

    def close(self):
        """Count."""
        self.closed += 1
