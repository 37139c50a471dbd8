"""The transport port of a network with a profile: frames by reference, in simulated time.

Like ``SimNetwork`` it connects ``sim://name`` addresses inside one program. It moves frames, not
bytes: nothing is encoded and payloads are never copied, so a federation of thousands costs little,
and one of the zero page's tensors nearly nothing. In exchange no fault can strike between two
frames. Payload memory must stay as it is until it has arrived, as over ``memory://``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from flare_async.errors import ConfigError, ConnectFailed, FlareError, LocalProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.ports import Clock, Random
from flare_async.testing.delay import pass_seconds
from flare_async.testing.lane import Host, Lane
from flare_async.testing.loop import SimLoop
from flare_async.testing.named import NamedListener, NamedNetwork
from flare_async.testing.profile import Course, Profile
from flare_async.testing.waiters import Waiters
from flare_async.wire.frames import Frame

__all__ = ["ProfileLink", "ProfileNetwork"]

ACCEPT_QUEUE: Final = 1_000_000  # everybody may connect in the same virtual second
SCHEME: Final = "sim://"
FRAME_BYTES: Final = 256 * KIB
WRITE_BYTES: Final = 1024 * KIB  # what a system takes of a link before it has left, less a frame


class ProfileLink:
    """One end of a connection; what it sends goes over its ``lane``."""

    by_reference = False
    identity: str | None = None

    def __init__(self, address: str, loop: SimLoop, lane: Lane, frame_bytes: int) -> None:
        self.address = address
        self.frame_bytes = frame_bytes
        self._loop = loop
        self._lane = lane
        self._peer: ProfileLink = self
        self._receiver: LinkReceiver | None = None
        self._ended = False
        self._full = False
        self._waiters = Waiters()

    def __repr__(self) -> str:
        return f"<ProfileLink to {self.address}>"

    @property
    def writable(self) -> bool:
        """Whether the system would take another frame; once full, not before half has left."""
        lane, most = self._lane, WRITE_BYTES // 2 if self._full else WRITE_BYTES
        self._full = not (lane.sent <= most or lane.pending <= most)
        return not (self._full or self._ended)

    @property
    def pending(self) -> int:
        """Bytes that have not left yet."""
        return self._lane.pending

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        return self._ended

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver; a link that has ended tells so at once."""
        if self._ended:
            receiver.lost(None)
            return
        self._receiver = receiver
        self._peer._lane.read(receiver.receive, self._hang_up)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Hand frames over; dropped when the link has ended."""
        if not self._ended:
            self._lane.send(frames)

    async def wait_writable(self) -> None:
        """Wait until half of what the system takes has left, or the link has ended."""
        await self._wait_pending(WRITE_BYTES // 2)

    def abort(self) -> None:
        """End the link; the other end learns it after what was already sent."""
        if not self._ended:
            self._lane.end()
            self._end(None)

    async def aclose(self) -> None:
        """Send what is pending, then end the link; cancelling aborts."""
        try:
            await self._wait_pending(0)
        finally:
            self.abort()

    def _hang_up(self) -> None:
        self._end(None)

    async def _wait_pending(self, nbytes: int) -> None:
        while not self._ended and self._lane.pending > nbytes:
            timer = self._loop.call_at(self._lane.clears(nbytes), self._waiters.wake)
            try:
                await self._waiters.wait()
            finally:
                timer.cancel()

    def _end(self, error: FlareError | None) -> None:
        if self._ended:
            return
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(error)
        self._ended = True
        self._peer._lane.drop()
        if not self._peer._ended:
            self._lane.end()
        self._waiters.wake()


class ProfileNetwork:
    """Listeners and links of one simulated network.

    ``profile_of`` names the profile of the links that a host makes; what of its spreads the host
    has is drawn from a stream of its own. ``rate_of`` is the bytes a second, in each direction, of
    the port that all links of a host share (default: no bound). Frames take their jitter and losses
    from the random port's stream ``net``. ``hosts`` counts what has passed.

    Raises:
        LocalProtocolError: no ``SimLoop`` runs, whose time frames could take.
    """

    scheme = "sim"

    def __init__(
        self,
        clock: Clock,
        random: Random,
        profile_of: Callable[[str], Profile],
        *,
        rate_of: Callable[[str], float] = lambda host: inf,
        limits: Limits | None = None,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        self.hosts: dict[str, Host] = {}
        self._clock = clock
        self._loop = simulated()
        self._random = random
        self._dice = random.stream("net")
        self._profile_of = profile_of
        self._rate_of = rate_of
        self._limits = limits or Limits()
        self._frame_bytes = min(frame_bytes, self._limits.frame_bytes)
        self._listeners: dict[str, NamedListener[ProfileLink]] = {}

    def of(self, host: str) -> NamedNetwork[ProfileLink]:
        """Return the network port of one host."""
        return NamedNetwork(self, host)

    async def connect(self, address: str, host: str = "") -> ProfileLink:
        """Connect to a listener of this network; takes one round trip.

        Bounded by ``handshake_timeout``; cancelling leaves nothing.

        Raises:
            ConnectFailed: nobody listens there, or the round trip takes too long.
            ConfigError: the address is no ``sim://name``.
        """
        check_address(address)
        up, down = self._courses(host)
        seconds = self._limits.handshake_timeout
        if up.latency + down.latency > seconds:
            await pass_seconds(self._clock, seconds)
            raise ConnectFailed(address, f"no answer within {seconds:g} s")
        await pass_seconds(self._clock, up.latency)
        listener = self._listeners.get(address)
        if listener is None:
            await pass_seconds(self._clock, down.latency)
            raise ConnectFailed(address, "nobody listens there")
        here, there = self._linked(address, host, (up, down))
        if not listener.offer(there):
            raise ConnectFailed(address, "too many links wait to be accepted")
        try:
            await pass_seconds(self._clock, down.latency)
        except asyncio.CancelledError:
            here.abort()
            raise
        return here

    async def listen(self, address: str) -> NamedListener[ProfileLink]:
        """Listen under a name.

        Raises:
            ConnectFailed: somebody listens there already.
            ConfigError: the address is no ``sim://name``.
        """
        check_address(address)
        if address in self._listeners:
            raise ConnectFailed(address, "somebody listens there already")
        listener = self._listeners[address] = NamedListener(self, address, ACCEPT_QUEUE)
        return listener

    def forget(self, address: str) -> None:
        """Free a name."""
        self._listeners.pop(address, None)

    def host(self, name: str) -> Host:
        """Return a host, from its first mention on."""
        found = self.hosts.get(name)
        if found is None:
            rate = self._rate_of(name)
            found = self.hosts[name] = Host(name, rate, rate)
        return found

    def _courses(self, host: str) -> tuple[Course, Course]:
        profile, dice = self._profile_of(host), self._random.once(f"line {host}")
        return profile.up.drawn(dice), profile.down.drawn(dice)

    def _linked(
        self, address: str, host: str, courses: tuple[Course, Course]
    ) -> tuple[ProfileLink, ProfileLink]:
        near, far = self.host(host), self.host(address.removeprefix(SCHEME))
        up = Lane(self._loop, self._dice, courses[0], (near, far))
        down = Lane(self._loop, self._dice, courses[1], (far, near))
        here = ProfileLink(address, self._loop, up, self._frame_bytes)
        there = ProfileLink(f"{SCHEME}{host}", self._loop, down, self._frame_bytes)
        here._peer, there._peer = there, here
        return here, there


def simulated() -> SimLoop:
    """Return the running loop. Raises LocalProtocolError."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimLoop):
        raise LocalProtocolError(f"{type(loop).__name__} has no simulated time: use run_sim")
    return loop


def check_address(address: str) -> None:
    """Refuse an address of another network. Raises ConfigError."""
    if not address.startswith(SCHEME) or address == SCHEME:
        raise ConfigError("address", address, "is not simulated", "write sim://name")
