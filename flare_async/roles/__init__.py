"""Server, client and the rounds between them.

Theory of operation
===================

A **client** connects to its server and then only answers: tasks are pushed to it. A task is one
channel that the server opens; its header is the ``TaskOffer``. As long as that channel is open the
client has the lease of the task, and whoever gives it up resets it: the server because the round is
over, the client because it leaves. Nothing else tells a client to stop, and nothing is polled. A
site that comes back under a newer session while it has a task gets the same task again.

The model travels beside the channel: the offer names a reference on the server's shelf, the client
pulls it; the result names a reference on the client's shelf, the server pulls that, at its own pace
and into the staging of a reducer. *Received* says that the update is whole and verified here,
*committed* that it will not be asked for again.

A **relay** is a client above and a server below. A site behind it stands in the server's directory
as a route, which opens channels like a session; each relay opens them again at the next hop and
joins both sides, so nothing of a round knows that it is there. A relay that caches answers pulls of
tensors itself.

Who takes part, when a round is over and who is revoked is decided by ``RoundMachine``, which is
pure: events in, actions out. ``Round`` is the thin coroutine around it: one task a site that holds
a lease, all owned by the ``async with cohort.round(...)`` block, so nothing outlives it.
"""

from __future__ import annotations

__all__: list[str] = []
