"""What listeners share: the bounded queue of links that wait to be accepted, and how to begin."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import Generic, Self, TypeVar

from flare_async.net.link import Link

__all__ = ["ACCEPT_BURST", "AcceptQueue", "begin"]

ACCEPT_BURST = 64  # connections that are accepted in one turn of the loop
BACKLOG = 4096  # those that may wait for it: clients reconnect all at once after a restart

LinkT = TypeVar("LinkT", bound=Link)


class AcceptQueue(Generic[LinkT]):
    """Links in the order of their arrival; refuses one more than ``size`` instead of waiting."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._links: deque[LinkT] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> LinkT:
        """Wait for ever for the next link, which is a listener's work; ends after ``close``."""
        while not self._links:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._links.popleft()

    def offer(self, link: LinkT) -> bool:
        """Queue a link; False when it must be refused."""
        if self._closed or len(self._links) >= self._size:
            return False
        self._links.append(link)
        self._wake()
        return True

    def close(self) -> None:
        """End the iteration; links that wait are aborted."""
        self._closed = True
        while self._links:
            self._links.popleft().abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def begin(server: asyncio.AbstractServer) -> None:
    """Let a server that was made with ``ACCEPT_BURST`` and without ``start_serving`` accept.

    Waits for one turn of the loop; cancelling in it leaves no open socket, where asyncio's own
    ``create_server(start_serving=True)`` would. The system's queue is longer than the burst:
    asyncio tries as often as its ``backlog`` at each event and, where no descriptor is left,
    reports and repeats each of these tries.
    """
    try:
        await server.start_serving()
        for listening in getattr(server, "sockets", ()):
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(BACKLOG)
    except BaseException:
        server.close()
        raise
