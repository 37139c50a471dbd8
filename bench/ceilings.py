"""The ceiling of a byte transport: blocking sockets that do nothing but move the bytes.

A request of eight bytes names a length; the answer comes in frames of a 16-byte header and a
payload, sent from the source's own memory and received into the destination's. Over ``tls://`` the
same goes through the standard library's ``ssl``.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final, Self
from urllib.parse import urlsplit

from flare_async.net.credentials import Credentials

__all__ = ["RawReceiver", "RawSender"]

REQUEST: Final = struct.Struct("<Q")
HEAD: Final = struct.Struct("<QQ")


class RawSender:
    """Listens on ``tcp://``, ``tls://`` or ``unix://`` and answers one peer."""

    def __init__(self, address: str, frame: int, credentials: Credentials | None) -> None:
        self._frame = frame
        self._context = None
        if address.startswith("tls:") and credentials is not None:
            self._context = credentials.server_context()
        self._peer: socket.socket | None = None
        self._listener = socket.socket(family(address))
        self._listener.bind(target(address))
        self._listener.listen(1)
        self.address = address
        if not address.startswith("unix:"):
            scheme, port = urlsplit(address).scheme, self._listener.getsockname()[1]
            self.address = f"{scheme}://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._listener, self._peer):
            if opened is not None:
                opened.close()

    def answer(self, source: memoryview) -> None:
        """Wait for a request and send as many bytes of ``source``.

        Raises:
            ConnectionError: the peer has left.
        """
        if self._peer is None:
            self._peer = self._accept()
        peer, frame = self._peer, self._frame
        request = bytearray(REQUEST.size)
        fill(peer, memoryview(request))
        (length,) = REQUEST.unpack(request)
        for at in range(0, length, frame):
            payload = source[at : min(at + frame, length)]
            peer.sendall(HEAD.pack(len(payload), at))
            peer.sendall(payload)

    def _accept(self) -> socket.socket:
        peer, _ = self._listener.accept()
        return peer if self._context is None else self._context.wrap_socket(peer, server_side=True)


class RawReceiver:
    """Connects to a ``RawSender``."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        self._context: ssl.SSLContext | None = None
        if address.startswith("tls:") and credentials is not None:
            self._context = credentials.client_context()
        self._host = urlsplit(address).hostname
        self._socket = socket.socket(family(address))
        self._socket.connect(target(address))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fetch(self, into: memoryview) -> int:
        """Request as many bytes as ``into`` holds; return how many reads brought them.

        Raises:
            ConnectionError: the peer has left.
        """
        if self._context is not None:  # not earlier: nobody answers before the first request
            context, self._context = self._context, None
            self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
        connection, head = self._socket, bytearray(HEAD.size)
        connection.sendall(REQUEST.pack(len(into)))
        left, reads = into, 0
        while left:
            fill(connection, memoryview(head))
            size, _ = HEAD.unpack(head)
            reads += fill(connection, left[:size])
            left = left[size:]
        return reads


def fill(connection: socket.socket, view: memoryview) -> int:
    """Receive as much as ``view`` holds; return the number of reads.

    Raises:
        ConnectionError: the peer has left.
    """
    reads = 0
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError(f"the peer has left, {len(view)} bytes are missing")
        view = view[count:]
        reads += 1
    return reads


def family(address: str) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET


def target(address: str) -> tuple[str, int] | str:
    """Return the socket address of an address."""
    if address.startswith("unix:"):
        return address.removeprefix("unix://")
    parts = urlsplit(address)
    return str(parts.hostname), int(parts.port or 0)
