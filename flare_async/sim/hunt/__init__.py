"""Hunts for mistakes in a user's recipe: the same job, again and again, in other orders.

Theory of operation. A seed draws a case: how long links and trainings take, in which order steps
that are ready together run, and for every second seed what goes wrong: links that are lost, frozen,
slow or slicing, trainers that die. The job's own seed stays as it is, so sampling, the sites'
random numbers and therefore the model are the same in all cases in which the same sites take part.
A case is played in virtual time by the real server, relays, clients and recipe, and judged:

* it ends: no deadlock, no task that is left, no exception that nobody handles;
* nothing goes wrong in a case without faults, and with them only what the faults explain;
* a site counts once a round;
* the model's bits are those of the plainest run with the same participants (asynchronous recipes,
  whose result depends on the order by design, are hunted with ``--any-order``);
* ``check(run)`` of the job file, if it has one, raises nothing.

A failing case is made smaller by leaving out one thing after the other, and its story is compared
with that of a case that passes.
"""

from __future__ import annotations

__all__: list[str] = []
