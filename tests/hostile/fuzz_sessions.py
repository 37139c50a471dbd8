"""Fuzz of decoder and session machine: cases are numbered, and each can be run alone.

Seventeen of twenty cases are mutations of recorded sessions; the others are a valid greeting and
then forged frames or noise. A case feeds one session in random slices, until a frame is refused.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from flare_async.errors import RemoteProtocolError
from tests.hostile.fuzz_mutate import forged_frame, mutate_link
from tests.hostile.fuzz_party import Party
from tests.hostile.fuzz_record import records

__all__ = ["SessionFuzz"]

RECORDED = 48
MUTATED_SHARE = 0.85
SLICES = (1, 7, 64, 300, 1500, 4000)


class SessionFuzz:
    """Runs the cases of one seed; ``tally`` counts what came of them."""

    name = "sessions"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.recordings = records(seed, RECORDED)
        self.frames = [data for one in self.recordings for link in one.links for data in link]
        self.tally: Counter[str] = Counter()

    @property
    def judged(self) -> int:
        """How many frames were judged so far."""
        return self.tally["frames: accepted"] + self.tally["frames: refused"]

    def case(self, number: int) -> int:
        """Run one case; return how many frames were judged.

        Anything but a RemoteProtocolError leaves: that is a finding.
        """
        dice = Random(f"{self.seed}:{number}")
        recording = dice.choice(self.recordings)
        links = [list(link) for link in recording.links]
        if dice.random() < MUTATED_SHARE:
            for _ in range(dice.choice((1, 1, 2, 4))):
                at = dice.randrange(len(links))
                links[at] = mutate_link(dice, links[at], self.frames)
            self.tally["cases: mutated sessions"] += 1
        else:
            links = [[links[0][0], *(forged_frame(dice) for _ in range(20))]]
            self.tally["cases: forged"] += 1
        party = Party(recording.listener)
        party.splits = dice.random() < 0.5
        party.pace = dice.choice((0.05, 0.05, 1e-6))
        return self.play(party, links, dice)

    def play(self, party: Party, links: list[list[bytes]], dice: Random) -> int:
        """Feed links to a party; return how many frames were judged."""
        before = self.judged
        try:
            for at, link in enumerate(links):
                if at and party.over:
                    break
                if at:
                    party.relink()
                self._feed(party, b"".join(link), dice)
        except RemoteProtocolError as error:
            self._refused(party, error)
        party.machine.leave(6, "fuzz")
        party.emit()
        party.close()
        return self.judged - before

    def _feed(self, party: Party, data: bytes, dice: Random) -> None:
        rest = memoryview(data)
        most = dice.choice(SLICES)
        while rest:
            room = party.decoder.buffer()
            count = min(len(room), len(rest), dice.randint(1, most))
            room[:count] = rest[:count]
            for frame in party.decoder.advance(count):
                party.take(frame)
                party.check()
                self.tally["frames: accepted"] += 1
            rest = rest[count:]
        party.decoder.eof()

    def _refused(self, party: Party, error: RemoteProtocolError) -> None:
        self.tally["frames: refused"] += 1
        self.tally[f"refused: {error.reason}"] += 1
        text = str(error)
        assert text.isprintable(), text
        assert len(text) < 600, text
        party.check()

    def unchanged(self) -> int:
        """Replay every recording as it is; return the frames, all of which must be accepted."""
        total = 0
        for number, recording in enumerate(self.recordings):
            dice = Random(number)
            links = [list(link) for link in recording.links]
            total += self.play(Party(recording.listener), links, dice)
            assert not self.tally["frames: refused"], f"recording {number}: {self.tally}"
        return total
