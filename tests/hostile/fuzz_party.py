"""One end of a fuzzed session: machine, decoder, and an application that does random valid things.

What the application does depends on its seed and on the frames that came, on nothing else. So the
end that was recorded with a peer behaves in a replay as it did then, up to the first mutation, and
goes on sensibly behind it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from flare_async.limits import KIB, Limits
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.events import (
    Arrived,
    Event,
    Finished,
    Opened,
    Overran,
    PeerLeft,
    WasReset,
)
from flare_async.wire.frames import Data, Frame, Hello, Landed
from flare_async.wire.session import OpenOptions, SessionMachine, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["FUZZ_LIMITS", "Party", "Person"]

FUZZ_LIMITS = Limits(
    channels=6,
    frame_bytes=16 * KIB,
    control_bytes=4 * KIB,
    window_bytes=16 * KIB,
    link_bytes=40 * KIB,
)
SESSION = b"0123456789abcdef"
PAYLOAD = bytes(range(256)) * 16
ACTIONS = ("open", "send", "send", "send", "end", "consume", "consume", "reset", "lease", "ask")


@dataclass(frozen=True, slots=True)
class Person:
    """What decides how a party behaves."""

    side: Side
    seed: int
    resumable: bool
    window: int


class Party:
    """A machine and its application; every call that it makes is one that callers may make."""

    def __init__(self, person: Person, *, preamble: bool = True) -> None:
        self.person = person
        self.dice = Random(person.seed)
        self.budget = CreditBudget(FUZZ_LIMITS.link_bytes)
        self.machine = SessionMachine(
            person.side,
            FUZZ_LIMITS,
            FUZZ_LIMITS.frame_bytes,
            self.budget,
            resumable=person.resumable,
        )
        self.now = 0.0
        self.pace = 0.05
        self.splits = False  # lend the part of a lease that is left for a longer payload
        self.epoch = 0
        self.over = False
        self.out: deque[bytes] = deque()
        self.sending: dict[int, bool] = {}  # of each open channel: our direction has not ended
        self.unread: dict[int, int] = {}
        self.leases: dict[int, memoryview] = {}
        self.machine.hello(self._hello())
        self.emit()
        self.decoder = Decoder(self.destination, limits=FUZZ_LIMITS, preamble=preamble)

    def relink(self) -> None:
        """Lose the link and take the next one."""
        self.machine.detach()
        self.epoch += 1
        self.machine.attach(self._hello(), FUZZ_LIMITS.frame_bytes)
        self.decoder = Decoder(self.destination, limits=FUZZ_LIMITS)
        self.out.clear()
        self.emit()

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Say where payload lands."""
        lease = self.leases.get(channel)
        if lease is None or offset + (0 if self.splits else length) > len(lease):
            return None
        return lease[offset : offset + length]

    def take(self, frame: Frame | Landed) -> None:
        """Judge a frame and do what an application would.

        Payload alone makes it do nothing: how many pieces that comes in depends on how the bytes
        were read.

        Raises:
            RemoteProtocolError: the frame breaks the protocol.
        """
        bulk = isinstance(frame, Landed) or (isinstance(frame, Data) and not frame.end)
        self.now += 0.0 if bulk else self.pace
        self._react(self.machine.receive(frame, self.now))
        if not bulk:
            self.act()
            self.emit()

    def act(self) -> None:
        """Do one random thing that is allowed now."""
        if self.over:
            return
        action = self.dice.choice(ACTIONS)
        if action == "open":
            self._open()
        elif action == "ask":
            self._ask()
        elif self.sending:
            channel = self.dice.choice(list(self.sending))
            getattr(self, f"_{action}")(channel)

    def emit(self) -> None:
        """Put what leaves now into ``out``, in bytes.

        Always at the same points, because what was sent is a part of what frames are judged by.
        """
        self.out += [b"".join(encode(frame)) for frame in self.machine.frames_to_send(4 * KIB)]

    def leave(self) -> None:
        """Say goodbye."""
        self.machine.leave(0, "done")
        self.over = True

    def check(self) -> None:
        """Assert what must hold after every frame."""
        assert self.machine.open_channels <= FUZZ_LIMITS.channels
        assert 0 <= self.budget.available <= self.budget.total

    def close(self) -> None:
        """End; assert that nothing is left."""
        self.machine.close()
        assert self.budget.available == self.budget.total
        assert self.machine.open_channels == 0

    def _hello(self) -> Hello:
        person = self.person
        return Hello(
            1, f"party-{person.seed}", SESSION, self.epoch, b"", "client", person.window, 8 * KIB
        )

    def _react(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Opened(channel=channel):
                    self.sending[channel] = True
                case Arrived(channel=channel, payload=payload):
                    if channel not in self.leases:
                        self.unread[channel] = self.unread.get(channel, 0) + len(payload)
                case WasReset() | Finished() | Overran():
                    self._forget(event.channel)
                case PeerLeft():
                    self.over = True

    def _forget(self, channel: int) -> None:
        for table in (self.sending, self.unread, self.leases):
            table.pop(channel, None)

    def _open(self) -> None:
        if len(self.sending) >= FUZZ_LIMITS.channels:
            return
        dice = self.dice
        options = OpenOptions(
            window=dice.choice([None, 0, 1, 1000, 20_000]),
            end=dice.random() < 0.3,
            urgent=dice.random() < 0.3,
            leased=dice.random() < 0.2,
            destination=dice.choice(["", "site-9"]),
            hops=dice.choice([0, 1, 255]),
        )
        channel = self.machine.open("topic", PAYLOAD[: dice.choice([0, 3, 40])], options=options)
        self.sending[channel] = not options.end
        if options.leased:
            self.leases[channel] = memoryview(bytearray(4096))
            self.machine.lease(channel, 4096)

    def _send(self, channel: int) -> None:
        if self.sending[channel]:
            size = self.dice.choice([1, 5, 100, 600, 3000])
            self.machine.send(channel, memoryview(PAYLOAD)[:size])

    def _end(self, channel: int) -> None:
        if self.sending[channel]:
            self.sending[channel] = False
            self.machine.end(channel, self.dice.choice([b"", b"digest" * 5]))

    def _consume(self, channel: int) -> None:
        unread = self.unread.get(channel, 0)
        if unread:
            part = unread if self.dice.random() < 0.7 else self.dice.randint(1, unread)
            self.unread[channel] = unread - part
            self._react(self.machine.consume(channel, part, self.now))

    def _reset(self, channel: int) -> None:
        if self.dice.random() < 0.3:
            self.machine.reset(channel, self.dice.choice([1, 2, 6]), "given up\n")
            self._forget(channel)

    def _lease(self, channel: int) -> None:
        if channel not in self.leases and not self.machine.statistics(channel).received:
            size = self.dice.choice([1, 500, 9000])
            self.leases[channel] = memoryview(bytearray(size))
            self.machine.lease(channel, size)

    def _ask(self) -> None:
        self.machine.ping(self.dice.getrandbits(64))
        for channel in list(self.sending)[:1]:
            self.machine.withdraw(channel)
            self.machine.sendable(channel)
            self.machine.end_acknowledged(channel)
            assert self.machine.unsent(channel) == self.machine.statistics(channel).unsent
