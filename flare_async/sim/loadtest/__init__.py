"""Load tests: many clients in processes of their own, over real sockets.

Theory of operation. One process is the server and does the measuring; the others host the clients,
each of which is the same ``Client`` that a site runs, with a worker that adds one to the model. The
server plays rounds of a weighted mean, so the result is known and checked. What is measured is what
the server sees: how long each task took from its start to its end, how late its event loop was, how
many bytes went each way, what failed and of which kind. Hosts tell how much memory they grew by.

A host is this package's ``host`` module in a child process, or ``load --join ADDRESS`` on another
machine. Faults are the clients' own: some train slowly, some lose their link while they train (the
session goes on over the next one), some fail. Who does is drawn from the seed.
"""

from __future__ import annotations

__all__: list[str] = []
