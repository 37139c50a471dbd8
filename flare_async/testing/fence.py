"""Keep a simulated program away from the real world: sockets, pipes, processes, threads, signals.

A virtual clock cannot wait for any of them: the clock would jump over the answer, and no seed would
bring the same run back. So each way out raises at once and says what to use instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NoReturn

from flare_async.errors import LocalProtocolError

__all__ = ["FENCED", "fenced", "refuse_thread"]

FENCED = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "remove_signal_handler",
    "remove_writer",
    "sendfile",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
)


def fenced(name: str) -> Callable[..., NoReturn]:
    """Return a method for an event loop that refuses to do what its name says."""

    def refuse(self: asyncio.AbstractEventLoop, *args: object, **options: object) -> NoReturn:
        raise LocalProtocolError(
            f"simulation fence: {name} reaches the real world; inject a simulated port instead"
        )

    refuse.__name__ = name
    return refuse


def refuse_thread(callback: object) -> None:
    """Refuse a done-callback that belongs to a thread: the mark of ``anyio.to_thread``.

    Raises:
        LocalProtocolError: the callback is a method of a thread.
    """
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, threading.Thread):
        raise LocalProtocolError(
            f"simulation fence: {owner.name!r} is a real thread, whose result no virtual clock can"
            " wait for; asyncio.to_thread runs inline here"
        )
