"""Two machines, two queues, a model: whatever happens, bytes arrive in order and nothing is left.

The model is, for each direction of each channel, what was sent and what arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from flare_async.limits import Limits
from flare_async.wire.events import Arrived, Ended, Event, Finished, LandedBytes, Opened, WasReset
from flare_async.wire.frames import Data, Landed
from flare_async.wire.session import OpenOptions, SessionMachine
from flare_async.wire.windows import CreditBudget
from tests.wire.pair import Pair

LIMITS = Limits(channels=6)
BUDGET = 20_000
PATTERN = bytes(range(256)) * 40


@dataclass
class Stream:
    """One direction of a channel."""

    sent: bytearray = field(default_factory=bytearray)
    arrived: bytearray = field(default_factory=bytearray)
    unread: int = 0
    ended: bool = False
    end_seen: bool = False
    leased: bool = False


class TwoMachines(RuleBasedStateMachine):
    """Rules are what applications and the wire may do."""

    channels = Bundle("channels")

    def __init__(self) -> None:
        super().__init__()
        self.budgets = (CreditBudget(BUDGET), CreditBudget(BUDGET))
        self.pair = self.make_pair()
        self.streams: dict[tuple[SessionMachine, int], Stream] = {}
        self.gone: set[int] = set()

    def make_pair(self) -> Pair:
        return Pair(LIMITS, 64, budgets=self.budgets).greet()

    def machine(self, first: bool) -> SessionMachine:
        return self.pair.a if first else self.pair.b

    @initialize(target=channels)
    def begin(self) -> int:
        return self.open(True, OpenOptions())

    @rule(
        target=channels,
        first=st.booleans(),
        options=st.builds(
            OpenOptions,
            window=st.none() | st.integers(1, 500),
            end=st.booleans(),
            urgent=st.booleans(),
            leased=st.booleans(),
        ),
    )
    def open_one(self, first: bool, options: OpenOptions) -> int:
        return self.open(first, options)

    def open(self, first: bool, options: OpenOptions) -> int:
        """Open a channel; 0 if there are enough."""
        machine = self.machine(first)
        if machine.open_channels >= LIMITS.channels:
            return 0
        channel = machine.open("topic", options=options)
        self.streams[machine, channel] = Stream(ended=options.end, end_seen=options.end)
        self.streams[self.pair.other(machine), channel] = Stream(leased=options.leased)
        return channel

    def stream(self, machine: SessionMachine, channel: int) -> Stream | None:
        """Return what a machine sends on a channel that it knows and that lives."""
        alive = channel not in self.gone and channel in machine._table.channels
        return self.streams.get((machine, channel)) if alive else None

    @rule(first=st.booleans(), channel=channels, size=st.integers(1, 3000))
    def send(self, first: bool, channel: int, size: int) -> None:
        machine = self.machine(first)
        stream = self.stream(machine, channel)
        if stream is not None and not stream.ended:
            start = len(stream.sent) % 256
            data = PATTERN[start : start + size]
            machine.send(channel, data)
            stream.sent += data

    @rule(first=st.booleans(), channel=channels)
    def end(self, first: bool, channel: int) -> None:
        machine = self.machine(first)
        stream = self.stream(machine, channel)
        if stream is not None and not stream.ended:
            stream.ended = True
            machine.end(channel, b"trailer")

    @rule(first=st.booleans(), channel=channels)
    def withdraw(self, first: bool, channel: int) -> None:
        machine = self.machine(first)
        stream = self.stream(machine, channel)
        if stream is not None:
            dropped = machine.withdraw(channel)
            del stream.sent[len(stream.sent) - dropped :]

    @rule(first=st.booleans(), channel=channels, part=st.floats(0, 1))
    def consume(self, first: bool, channel: int, part: float) -> None:
        machine = self.machine(first)
        if self.stream(machine, channel) is not None:
            self.take(machine, channel, part)

    def take(self, machine: SessionMachine, channel: int, part: float) -> None:
        stream = self.streams[self.pair.other(machine), channel]
        size = int(stream.unread * part + 0.5)
        if size:
            stream.unread -= size
            self.note(machine, machine.consume(channel, size, self.pair.now))

    @rule(first=st.booleans(), channel=channels)
    def lease(self, first: bool, channel: int) -> None:
        machine = self.machine(first)
        if self.stream(machine, channel) is not None:
            machine.lease(channel)
            self.streams[self.pair.other(machine), channel].leased = True

    @rule(first=st.booleans(), channel=channels)
    def reset(self, first: bool, channel: int) -> None:
        machine = self.machine(first)
        if self.stream(machine, channel) is not None:
            machine.reset(channel, 1, "given up")
            self.gone.add(channel)

    @rule(first=st.booleans(), budget=st.integers(1, 500))
    def emit(self, first: bool, budget: int) -> None:
        self.pair.emit(self.machine(first), budget)

    @rule(first=st.booleans(), count=st.integers(1, 20))
    def deliver(self, first: bool, count: int) -> None:
        machine = self.machine(first)
        for _ in range(min(count, len(self.pair.queues[machine]))):
            self.deliver_one(machine)

    def deliver_one(self, machine: SessionMachine) -> None:
        receiver, frame = self.pair.other(machine), self.pair.queues[machine].popleft()
        if isinstance(frame, Data) and not frame.end:
            stream = self.streams[machine, frame.channel]
            if stream.leased:
                stream.arrived += frame.payload
                frame = Landed(frame.channel, frame.offset, len(frame.payload))
        self.note(receiver, receiver.receive(frame, self.pair.now))

    @rule(first=st.booleans())
    def exchange(self, first: bool) -> None:
        machine = self.machine(first)
        self.pair.emit(machine)
        while self.pair.queues[machine]:
            self.deliver_one(machine)

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.pair.now += seconds

    def note(self, receiver: SessionMachine, events: list[Event]) -> None:
        """Enter what a machine reported into the model."""
        sender = self.pair.other(receiver)
        for event in events:
            match event:
                case Arrived(channel, payload):
                    stream = self.streams[sender, channel]
                    stream.arrived += payload
                    stream.unread += 0 if stream.leased else len(payload)
                case LandedBytes(channel, _):
                    assert self.streams[sender, channel].leased
                case Ended(channel, trailer):
                    assert trailer == b"trailer"
                    self.streams[sender, channel].end_seen = True
                case WasReset(channel, _, _):
                    self.gone.add(channel)
                case Finished(channel):
                    both = (self.streams[sender, channel], self.streams[receiver, channel])
                    assert all(stream.end_seen for stream in both)
                    assert all(stream.arrived == stream.sent for stream in both)
                case _:
                    assert not isinstance(event, Opened) or event.topic == "topic"

    @invariant()
    def bytes_arrive_in_order(self) -> None:
        for stream in self.streams.values():
            assert stream.sent.startswith(stream.arrived)

    @invariant()
    def credit_is_never_exceeded(self) -> None:
        for machine in (self.pair.a, self.pair.b):
            for state in machine._table.channels.values():
                assert state.outgoing.sent <= state.outgoing.limit
                coming = state.incoming
                assert coming.received <= coming.limit <= coming.consumed + coming._size
        assert all(0 <= budget.available <= BUDGET for budget in self.budgets)

    def teardown(self) -> None:
        """End and consume everything: all channels finish, no state and no credit is left."""
        self.drain()
        assert [self.pair.a.open_channels, self.pair.b.open_channels] == [0, 0]
        assert [budget.available for budget in self.budgets] == [BUDGET, BUDGET]
        for (_, channel), stream in self.streams.items():
            assert channel in self.gone or stream.arrived == stream.sent

    def drain(self) -> None:
        moved = True
        while moved:
            moved = False
            for machine in (self.pair.a, self.pair.b):
                for channel in list(machine._table.channels):
                    self.finish(machine, channel)
                moved |= bool(self.pair.emit(machine))
                while self.pair.queues[machine]:
                    moved = True
                    self.deliver_one(machine)

    def finish(self, machine: SessionMachine, channel: int) -> None:
        """Let an application that is done end its direction and consume what is there."""
        stream = self.stream(machine, channel)
        if stream is None:
            return
        if not stream.ended:
            stream.ended = True
            machine.end(channel, b"trailer")
        self.take(machine, channel, 1.0)


TestTwoMachines = TwoMachines.TestCase
TestTwoMachines.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
