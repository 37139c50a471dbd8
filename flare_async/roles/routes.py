"""A site behind a relay, which looks like a session with it to whoever offers it tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from flare_async.errors import FlareError, LinkLost
from flare_async.limits import Limits
from flare_async.net.channel import Channel, Chunk
from flare_async.net.link import Link
from flare_async.net.session import Session
from flare_async.ports import Clock, Random
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import DEFAULT_OPTIONS, OpenOptions

__all__ = ["HOPS", "Route"]

HOPS = 8  # relays on a way, at most


class Route:
    """Channels to one site over the session of the relay that has announced it.

    It has what ``Session`` has for those who open channels. A route ends when the relay's session
    does, or the relay says so, or somebody else announces the site; its channels then fail.
    """

    __slots__ = ("__weakref__", "_opened", "error", "peer", "relays", "via")

    def __init__(self, site: str, via: Session, relays: tuple[str, ...] = ()) -> None:
        self.peer = site
        self.via = via
        self.relays = relays
        self.error: FlareError | None = None
        # Each site of a swarm has a route to every other one, and opens nothing on nearly all.
        self._opened: WeakValueDictionary[int, Channel] | None = None

    def __repr__(self) -> str:
        return f"<Route to {self.peer} via {self.via.peer}>"

    def open(
        self,
        topic: str,
        header: bytes = b"",
        options: OpenOptions | None = None,
        behind: Sequence[Chunk] = (),
    ) -> Channel:
        """Open a channel to the site; raises as ``Session.open`` does, also when the route ended.

        Raises:
            FlareError: the route or its session has ended.
        """
        if self.ended:
            raise self.error or LinkLost(self.peer, f"{self.via.peer} is gone")
        channel = self.via.open(topic, header, self._options(options or DEFAULT_OPTIONS), behind)
        channel.origin = self.peer  # in errors: the other side is the site, not who passes it on
        if self._opened is None:
            self._opened = WeakValueDictionary()
        self._opened[channel.id] = channel
        return channel

    def _options(self, given: OpenOptions) -> OpenOptions:
        return OpenOptions(  # ``replace`` takes four times as long
            window=given.window,
            end=given.end,
            urgent=given.urgent,
            leased=given.leased,
            destination=self.peer,
            hops=given.hops or HOPS,
        )

    def end(self, reason: str) -> None:
        """Fail the route's channels; harmless more than once."""
        if self.error is None:
            self.error = error = LinkLost(self.peer, reason)
            for channel in self.channels.values():
                if channel.is_open:  # the one before may have ended it
                    channel.give_up(error, reason, ResetCode.UNREACHABLE)

    # What it has in common with a session

    @property
    def ended(self) -> bool:
        """Whether nothing can be opened any more."""
        return self.error is not None or self.via.ended

    @property
    def channels(self) -> Mapping[int, Channel]:
        """The channels to the site, in the order in which they were opened."""
        opened = [] if self._opened is None else sorted(self._opened.items())
        return {number: channel for number, channel in opened if channel.is_open}

    @property
    def attached(self) -> bool:
        """Whether the relay's session has a link now."""
        return self.via.attached

    @property
    def link(self) -> Link:
        """The relay's link."""
        return self.via.link

    @property
    def limits(self) -> Limits:
        """This side's limits."""
        return self.via.limits

    @property
    def random(self) -> Random:
        """This side's random streams."""
        return self.via.random

    @property
    def clock(self) -> Clock:
        """This side's clock."""
        return self.via.clock
