"""The one HTTP exchange of a connecting side: what is asked, and how an answer is read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB

__all__ = ["ANSWER_BYTES", "Answer", "HttpExchange", "parse_answer"]

ANSWER_BYTES: Final = 16 * KIB  # status line and headers together
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(r"HTTP/1\.[01] (\d{3})(?: ([^\x00-\x1f]*))?")
_HEADER: Final = re.compile(r"([!#-'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*)")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status line and headers; names in lower case, of a repeated one the last value."""

    status: int
    reason: str
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()


def parse_answer(data: bytes | bytearray) -> tuple[Answer, int] | None:
    """Return a final answer and where it ends; None if more has to come.

    Answers such as ``100 Continue`` are skipped.

    Raises:
        RemoteProtocolError: it is not HTTP/1, or longer than ``ANSWER_BYTES``.
    """
    start = 0
    while True:
        end = data.find(_END, start)
        if end < 0:
            if len(data) >= ANSWER_BYTES:
                raise RemoteProtocolError("bad_http", f"an answer of over {ANSWER_BYTES} bytes")
            if not b"HTTP/1."[: len(data) - start] == data[start : start + 7]:
                raise RemoteProtocolError("bad_http", "the answer is not HTTP/1")
            return None
        answer = _parse_head(bytes(data[start:end]))
        start = end + len(_END)
        if answer.status >= 200 or answer.status == 101:
            return answer, start


def _parse_head(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise RemoteProtocolError("bad_http", f"the status line {first[:80]!a}")
    headers = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise RemoteProtocolError("bad_http", f"the header line {line[:80]!a}")
        headers[header[1].lower()] = header[2].strip(" \t")
    return Answer(int(status[1]), (status[2] or "").strip()[:80], headers)


class HttpExchange(asyncio.Protocol):
    """Asks over one connection and waits for the head of each answer.

    ``transport`` may be replaced, by one with TLS over the old one.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what is a part of an answer, or comes right behind it."""
        self._data += data
        if len(self._data) > ANSWER_BYTES and self.transport is not None:
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake who waits."""
        self._over, self._error = True, exc
        self._wake()

    async def ask(self, request: bytes) -> Answer:
        """Send a request without a body and return its answer; the caller bounds the wait.

        Raises:
            OSError: the connection ended before the answer.
            RemoteProtocolError: the answer is not HTTP.
        """
        if self.transport is not None:
            self.transport.write(request)
        while (found := parse_answer(self._data)) is None:
            if self._over:
                raise self._error or ConnectionResetError("it closed the connection at once")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        answer, end = found
        del self._data[:end]
        return answer

    def detach(self) -> bytes:
        """Return what has come behind the last answer; called right before another reads on."""
        data, self._data = bytes(self._data), bytearray()
        return data

    def abort(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
