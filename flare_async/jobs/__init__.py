"""Jobs: recipes, runs, and where user code runs.

Theory of operation
===================

A **recipe** is an algorithm with a name. ``coordinate`` is what its server does: an ``async for``
over the updates of a cohort's rounds. ``work`` is what its sites do: functions of the user, named
on the submitter's side only. An **environment** puts roles and ports together, hands the recipe a
``JobCohort`` and gives the caller a ``Run``.

At a site a task goes from the client role to the ``SiteWorker`` and on to a **spawner**, which runs
the user's function on the loop, in a thread or in a process, each time with the same steps
(``training``), so the same task gives the same bits everywhere.

What a run reached is kept as it is reached, through the store port: each round a line of
``history.jsonl`` and the global model, each better version the best model, and at the end, whatever
the end was, ``run.json``.
"""

from __future__ import annotations

__all__: list[str] = []
