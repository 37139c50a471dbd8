"""The ceiling of a byte transport: blocking sockets that do nothing but move the bytes.

A request of eight bytes names a length; the answer comes in frames of a 16-byte header and a
payload, sent from the source's own memory and received into the destination's.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Self
from urllib.parse import urlsplit

__all__ = ["RawReceiver", "RawSender"]

REQUEST: Final = struct.Struct("<Q")
HEAD: Final = struct.Struct("<QQ")


class RawSender:
    """Listens on ``tcp://host:port`` or ``unix:///path`` and answers one peer."""

    def __init__(self, address: str, frame: int) -> None:
        self._frame = frame
        self._peer: socket.socket | None = None
        self._listener = socket.socket(family(address))
        self._listener.bind(target(address))
        self._listener.listen(1)
        self.address = address
        if address.startswith("tcp:"):
            self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

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
            self._peer, _ = self._listener.accept()
        peer, frame = self._peer, self._frame
        request = peer.recv(REQUEST.size, socket.MSG_WAITALL)
        if len(request) != REQUEST.size:
            raise ConnectionError("the receiver has left")
        (length,) = REQUEST.unpack(request)
        for at in range(0, length, frame):
            payload = source[at : min(at + frame, length)]
            peer.sendall(HEAD.pack(len(payload), at))
            peer.sendall(payload)


class RawReceiver:
    """Connects to a ``RawSender``."""

    def __init__(self, address: str) -> None:
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
        connection, head = self._socket, bytearray(HEAD.size)
        connection.sendall(REQUEST.pack(len(into)))
        left, reads = into, 0
        while left:
            if connection.recv_into(head, HEAD.size, socket.MSG_WAITALL) != HEAD.size:
                raise ConnectionError(f"the sender has left, {len(left)} bytes are missing")
            size, _ = HEAD.unpack(head)
            frame, left = left[:size], left[size:]
            while frame:
                count = connection.recv_into(frame)
                if not count:
                    raise ConnectionError(f"the sender has left, {len(frame)} bytes are missing")
                frame = frame[count:]
                reads += 1
        return reads


def family(address: str) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_INET if address.startswith("tcp:") else socket.AF_UNIX


def target(address: str) -> tuple[str, int] | str:
    """Return the socket address of an address."""
    if address.startswith("unix:"):
        return address.removeprefix("unix://")
    parts = urlsplit(address)
    return str(parts.hostname), int(parts.port or 0)
