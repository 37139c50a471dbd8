"""One hop of a channel that goes on: opened at the next peer and joined with what came."""

from __future__ import annotations

from typing import TypeAlias

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.buffers import Buffers
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.net.splice import Splice, reset_of
from flare_async.transfer.pull import PULL_SCHEMA, DigestRequest, PullRequest
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["MIXED", "AnyRequest", "go_on", "pull_bytes", "pull_request"]

AnyRequest: TypeAlias = PullRequest | DigestRequest
MIXED = "a relay joins links of memory or links of bytes, not both"
SMALL_ANSWER = 64 * KIB  # the credit of a manifest or of digests


def pull_request(channel: Channel, limits: Limits) -> AnyRequest | None:
    """Return what a channel asks for; what nobody could answer is refused here."""
    try:
        request = PULL_SCHEMA.decode(channel.header, limits)
    except RemoteProtocolError as exc:
        channel.reset(ResetCode.PROTOCOL, exc.reason)
        return None
    if isinstance(request, PullRequest) and not 0 <= request.start <= request.stop:
        channel.reset(ResetCode.NOT_FOUND, "no such tensor or range")
        return None
    return request


def pull_bytes(request: AnyRequest) -> int:
    """Return how much credit a pull can use."""
    if isinstance(request, PullRequest) and request.tensor:
        return request.stop - request.start
    return SMALL_ANSWER


def go_on(
    splice: Splice,
    session: Session,
    header: bytes,
    options: OpenOptions,
    buffers: Buffers | None = None,
) -> bool:
    """Open the other side of a splice over ``session``; return whether that could be done.

    What cannot be done resets the side that there is.
    """
    here = splice.here
    if not here.is_open:
        return False
    if here.session.link.by_reference != session.link.by_reference:
        # Who takes references believes them, and what is read from a socket is read over later.
        here.reset(ResetCode.REFUSED, MIXED)
        return False
    try:
        there = session.open(here.topic, header, options)
        if not there.is_open:  # the session ended in the middle of it
            raise there.failed or LinkLost(session.peer, "the session has ended")
    except FlareError as exc:
        here.reset(*(ResetCode.UNREACHABLE, str(exc)) if session.ended else reset_of(exc))
        return False
    splice.join(there, leased=options.leased, buffers=buffers)
    return True
