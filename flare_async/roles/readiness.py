"""A site's side of a job's start: get ready when told, begin when told, say when done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.messages import Messages
from flare_async.roles.start_messages import (
    NOTICE_SCHEMA,
    START_SCHEMA,
    Acknowledged,
    Begin,
    Declined,
    JobNotice,
    StartMessage,
)
from flare_async.roles.text import described, shortened
from flare_async.wire.frames import ResetCode

__all__ = ["Prepare", "get_ready"]

PROBLEM_BYTES = 1000
Prepare: TypeAlias = Callable[[JobNotice], Awaitable[None]]
log = structlog.get_logger()


async def get_ready(channel: Channel, limits: Limits, prepare: Prepare | None) -> None:
    """Answer a server's start of a job; ``prepare`` makes the site ready for it.

    Waits for the server's word as long as the channel is open. What ``prepare`` raises declines.
    """
    messages = Messages(channel, START_SCHEMA)
    with anyio.CancelScope() as scope:
        channel.on_failed = scope.cancel
        try:
            notice = NOTICE_SCHEMA.decode(channel.header, limits)
            problem = await _prepared(notice, prepare)
            if problem:
                messages.post_last(Declined(problem))
                return
            await _acknowledge(messages)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
        except (FlareError, anyio.EndOfStream) as exc:
            log.info("start_given_up", peer=channel.peer, error=described(exc))
            channel.reset(ResetCode.CANCELLED, "the site gives up")


async def _prepared(notice: JobNotice, prepare: Prepare | None) -> str:
    """Get ready; return what speaks against it, or nothing."""
    lacking = notice.lacks()
    if lacking:
        return f"the job's metadata lack {lacking!r}"
    if prepare is None:
        return ""
    try:
        await prepare(notice)
    except Exception as exc:  # noqa: BLE001 - it is the site's own code
        return shortened(described(exc), PROBLEM_BYTES)
    return ""


async def _acknowledge(messages: Messages[StartMessage]) -> None:
    messages.post(Acknowledged())
    message = await messages.receive()
    if not isinstance(message, Begin):
        raise RemoteProtocolError("unexpected", type(message).__name__)
    messages.post_last(Acknowledged())
    try:
        await messages.receive()
    except anyio.EndOfStream:
        return
    raise RemoteProtocolError("unexpected", "a message after the start")
