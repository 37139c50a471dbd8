"""The conformance kit itself: a transport that does one thing wrong fails, with numbers."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from flare_async.errors import FlareError
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing import CHECKS, SimNetwork, TappedLink, check_name, link_pair, run_check
from flare_async.wire.frames import Data, Goodbye, Landed


class Defective(TappedLink):
    """A link that hands over its frames, except for one defect."""

    def send_soon(self, frames):
        self.link.send_soon([*frames])


class LosesGoodbyes(Defective):
    """Leaves without a word."""

    def send_soon(self, frames):
        super().send_soon([frame for frame in frames if type(frame) is not Goodbye])


class SwapsFrames(Defective):
    """Lets the last frame of a batch pass the others."""

    def send_soon(self, frames):
        super().send_soon([*frames[:1], *reversed(frames[1:])])


class FlipsBytes(Defective):
    """Damages the first byte of long payloads."""

    def send_soon(self, frames):
        super().send_soon([damaged(frame) for frame in frames])


class ForgetsLeases(Defective):
    """Reports as landed what it has written nowhere."""

    def destination(self, channel, offset, length):
        view = super().destination(channel, offset, length)
        return None if view is None else memoryview(bytearray(length))


class DropsOnClose(Defective):
    """Closes without sending what is pending."""

    async def aclose(self):
        self.link.abort()


class TellsTwice(Defective):
    """Tells each end twice."""

    def lost(self, error):
        super().lost(error)
        super().lost(error)


class ForgetsPending(Defective):
    """Never says how much waits."""

    @property
    def pending(self):
        return 0


class AlwaysWritable(Defective):
    """Takes whatever it is given."""

    @property
    def writable(self):
        return True


class NeverWaits(Defective):
    """Returns from the wait for room whether there is some or not."""

    async def wait_writable(self):
        return


class MergesCrumbs(Defective):
    """Sends short payloads with a head too few."""

    def send_soon(self, frames):
        super().send_soon([f for f in frames if not (type(f) is Data and f.offset % 1000 == 999)])


class WakesNobody(Defective):
    """Tells its end to the session, and again when it is asked to close."""

    async def aclose(self):
        await self.link.aclose()
        self.lost(None)


def damaged(frame):
    """Return a frame with another first byte."""
    if isinstance(frame, Data) and len(frame.payload) > 60_000:
        return Data(frame.channel, frame.offset, b"\x00" + bytes(frame.payload[1:]))
    return frame


DEFECTS = {
    LosesGoodbyes: "goodbye-ends-both-sessions-in-order",
    SwapsFrames: "frames-arrive-as-they-were-sent",
    FlipsBytes: "large-streams-pass-each-other",
    ForgetsLeases: "leased-bytes-land-in-place",
    DropsOnClose: "close-delivers-what-is-pending",
    TellsTwice: "each-end-learns-the-end-once",
    ForgetsPending: "a-paused-reader-is-felt",
    AlwaysWritable: "a-paused-reader-is-felt",
    NeverWaits: "a-wait-for-room-gives-way",
    MergesCrumbs: "crumbs-arrive-in-order",
    WakesNobody: "both-ends-may-close-at-once",
}


@pytest.mark.parametrize(
    ("defect", "name"), DEFECTS.items(), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_defect_is_found(sim, defect, name):
    """The check that is meant for it fails with a message of its own."""
    (check,) = [check for check in CHECKS if check_name(check) == name]

    @asynccontextmanager
    async def make():
        network = SimNetwork(LoopClock(), SeededRandom(1))
        async with link_pair(network, "sim://there") as ends:
            yield tuple(defect(link) for link in ends)

    async def main():
        with pytest.raises((AssertionError, FlareError)) as caught:
            await run_check(check, make)
        return str(caught.value)

    assert len(sim(main)) > 10


def test_a_check_that_hangs_is_ended(sim):
    """A transport that delivers nothing fails in bounded time."""

    class Silent(Defective):
        def send_soon(self, frames):
            pass

    @asynccontextmanager
    async def make():
        async with link_pair(SimNetwork(LoopClock(), SeededRandom(1)), "sim://there") as ends:
            yield tuple(Silent(link) for link in ends)

    async def main():
        with pytest.raises(AssertionError, match="hangs for 15 s"):
            await run_check(CHECKS[0], make)

    sim(main)


def test_a_tap_notes_frames_and_no_payload(sim):
    """Type, channel and length of what passes, in order, at both ends."""

    async def main():
        async with link_pair(SimNetwork(LoopClock(), SeededRandom(1)), "sim://there") as ends:
            tap = TappedLink(ends[0])
            tap.send_soon([Data(3, 0, b"four")])
            tap.receive([Landed(5, 0, 7)])
            return [(frame.sent, frame.kind, frame.channel, frame.nbytes) for frame in tap.passed]

    assert sim(main) == [(True, Data, 3, 4), (False, Landed, 5, 7)]


def test_a_held_tap_looks_full_until_its_release(sim):
    """What waits for room goes on when the tap is released."""

    async def main():
        async with link_pair(SimNetwork(LoopClock(), SeededRandom(1)), "sim://there") as ends:
            tap = TappedLink(ends[0])
            tap.hold()
            held = tap.writable
            LoopClock().call_at(LoopClock().now() + 1, tap.release)
            await tap.wait_writable()
            return held, tap.writable, LoopClock().now() >= 1

    assert sim(main) == (False, True, True)
