"""A link that is cut at any byte, again and again: every channel goes on as if nothing had been."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from flare_async.wire.events import Event, LandedBytes, Opened, PeerHello
from flare_async.wire.frames import Frame, Landed
from flare_async.wire.session import SessionMachine
from tests.wire.cable import Cable
from tests.wire.test_session_machine import LIMITS, Stream, TwoMachines

LEASED = 8000


class CutMachines(TwoMachines):
    """The applications of ``TwoMachines``, over bytes that stop anywhere."""

    def make_pair(self) -> Cable:
        # Steps that only queue must not look like a flood: sixty of them fit.
        self.pair = self.cable = Cable(replace(LIMITS, channels=16), 64, self.budgets)
        self.cable.take = self.take_frame
        self.cable.lease = self.memory_of
        self.opened: Counter[tuple[SessionMachine, int]] = Counter()
        self.memory: dict[tuple[SessionMachine, int], bytearray] = {}
        self.lost: Counter[tuple[SessionMachine, int]] = Counter()
        return self.cable.greet()

    def sent_to(self, machine: SessionMachine, channel: int) -> Stream:
        """Return the direction of a channel that ends at a machine."""
        return self.streams[self.cable.other(machine), channel]

    def memory_of(
        self, machine: SessionMachine, channel: int, offset: int, length: int
    ) -> memoryview | None:
        """Return leased memory, as long as it lasts."""
        if not self.sent_to(machine, channel).leased or offset >= LEASED:
            return None
        memory = self.memory.setdefault((machine, channel), bytearray(LEASED))
        return memoryview(memory)[offset : offset + length]

    def take_frame(self, machine: SessionMachine, frame: Frame | Landed) -> list[Event]:
        """Give a machine a frame, and the model what it reports."""
        events = machine.receive(frame, self.cable.now)
        for event in events:
            if isinstance(event, PeerHello):
                self.count_lost(machine)
            if isinstance(event, Opened):
                self.opened[machine, event.channel] += 1
            if isinstance(event, LandedBytes) and isinstance(frame, Landed):
                stream, memory = self.sent_to(machine, event.channel), self.memory
                start = frame.offset
                stream.arrived += memory[machine, event.channel][start : start + frame.length]
        self.note(machine, events)
        return events

    @rule(first=st.booleans(), count=st.integers(1, 2000))
    def deliver(self, first: bool, count: int) -> None:
        self.cable.deliver(self.machine(first), count)

    @rule(first=st.booleans())
    def exchange(self, first: bool) -> None:
        machine = self.machine(first)
        self.cable.emit(machine)
        self.cable.deliver(self.cable.other(machine))

    @rule(
        arriving=st.tuples(st.integers(0, 1000), st.integers(0, 1000)), acceptor_sees=st.booleans()
    )
    def cut(self, arriving: tuple[int, int], acceptor_sees: bool) -> None:
        self.cable.cut(arriving, noticed=acceptor_sees)

    @rule()
    def reattach(self) -> None:
        if not self.cable.alive:
            self.cable.reattach()

    @rule()
    def settle_links(self) -> None:
        self.reattach()
        self.cable.settle()

    def count_lost(self, machine: SessionMachine) -> None:
        """Note what a machine had under way that the peer, as it now says, never got."""
        end = self.cable.ends[machine]
        for channel in end.position:
            arrived = len(self.streams[machine, channel].arrived)
            self.lost[machine, channel] += end.position[channel] - arrived
            end.position[channel] = arrived

    @invariant()
    def nothing_is_opened_twice(self) -> None:
        assert all(count == 1 for count in self.opened.values())

    def teardown(self) -> None:
        """Nothing was sent twice but what was under way when a link died."""
        super().teardown()
        for (machine, channel), stream in self.streams.items():
            if channel not in self.gone:
                framed = self.cable.ends[machine].framed[channel]
                assert framed == len(stream.sent) + self.lost[machine, channel]

    def drain(self) -> None:
        self.reattach()
        moved = True
        while moved:
            moved = False
            for machine in (self.cable.a, self.cable.b):
                for channel in list(machine._table.channels):
                    self.finish(machine, channel)
                moved |= bool(self.cable.emit(machine))
                other = self.cable.other(machine)
                moved |= bool(self.cable.ends[other].coming)
                self.cable.deliver(other)


TestCutMachines = CutMachines.TestCase
TestCutMachines.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
