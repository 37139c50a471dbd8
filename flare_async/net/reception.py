"""The accepting side's door: new sessions, and new links for sessions that lost theirs."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from flare_async.errors import FlareError, HandshakeFailed, LinkLost
from flare_async.net.closing import close_link
from flare_async.net.endpoint import Endpoint
from flare_async.net.farewells import Farewells
from flare_async.net.greeting import Greeting
from flare_async.net.link import Link
from flare_async.net.session import Session
from flare_async.wire.frames import Frame, Hello
from flare_async.wire.session import Side

__all__ = ["Reception"]


class Reception:
    """Reads the first word of each accepted link of one role and finds its session.

    At most ``Limits.handshakes`` links may be silent at a time; with one more the one that has been
    silent longest goes. An honest peer speaks within a round trip, so a crowd of silent ones cannot
    keep it out, and sessions that exist are not touched by it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._silent: dict[Greeting, None] = {}
        self._sessions: dict[bytes, Session] = {}
        self._farewells = Farewells(endpoint)

    async def receive(self, link: Link) -> Session | None:
        """Return a new session over ``link``, not entered yet; None if an old one took the link.

        Waits for the peer's hello, and for the session that resumes; each is bounded by
        ``handshake_timeout``. Failing or being cancelled ends the link.

        Raises:
            HandshakeFailed: no hello in time, or one that is refused.
        """
        try:
            return await self._receive(link)
        except FlareError:
            await close_link(link, self._endpoint.limits)
            raise
        except BaseException:
            link.abort()
            raise

    # For the sessions

    def detached(self, session: Session) -> None:
        """Wait: the peer is the one who dials."""

    def ended(self, session: Session) -> None:
        """Forget the session, but for what its peer could not be told."""
        if self._sessions.pop(session.id, None) is not None and session.farewell is not None:
            self._farewells.keep(session.id, session.peer, session.farewell)

    # Internals

    async def _receive(self, link: Link) -> Session | None:
        greeting = Greeting(link, self._endpoint)
        hello, early = await self._greet(greeting, link)
        older = self._sessions.get(hello.session)
        if hello.epoch == 0 and older is None:
            self._make_room()
            session = Session(link, Side.ACCEPTOR, self._endpoint, lifeline=self, early=early)
            self._sessions[session.id] = session
            return session
        if older is None or not self._may_resume(older, hello, link):
            code, message = self._farewells.of(hello.session, hello.peer)
            greeting.refuse(code, message, hello)
            raise HandshakeFailed(link.address, f"{hello.peer} asks for a session that is gone")
        await older.resume(link, hello.epoch, early)
        return None

    async def _greet(self, greeting: Greeting, link: Link) -> tuple[Hello, Sequence[Frame]]:
        limits = self._endpoint.limits
        if len(self._silent) >= limits.handshakes:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.give_up()
        self._silent[greeting] = None
        try:
            with anyio.fail_after(limits.handshake_timeout):
                return await greeting.wait()
        except TimeoutError:
            link.abort()
            seconds = limits.handshake_timeout
            raise HandshakeFailed(link.address, f"sent no hello within {seconds:g} s") from None
        finally:
            self._silent.pop(greeting, None)

    def _make_room(self) -> None:
        """End a session that has no link where there are too many; without one, refuse another."""
        most = self._endpoint.limits.sessions
        if len(self._sessions) < most:
            return
        lonely = next((one for one in self._sessions.values() if not one.attached), None)
        if lonely is None:
            raise HandshakeFailed("this side", f"{most} sessions are open")
        lonely.end(LinkLost(lonely.peer, f"without a link while {most} sessions were open"))

    def _may_resume(self, older: Session, hello: Hello, link: Link) -> bool:
        known = older.hello
        return (
            known is not None
            and older.resumable
            and not older.ended
            and hello.epoch > older.epoch
            and (hello.peer, hello.role, hello.version) == (known.peer, known.role, known.version)
            and link.identity == older.identity
        )
