"""Valid sessions, recorded as the bytes that one end got, link by link."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from flare_async.wire.session import Side
from tests.hostile.fuzz_party import Party, Person

__all__ = ["Recording", "record", "records"]

STEPS = 90


@dataclass(frozen=True, slots=True)
class Recording:
    """Who listened, and the encoded frames of each link that it had, in order."""

    listener: Person
    links: tuple[tuple[bytes, ...], ...]

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return sum(map(len, self.links))


def records(seed: int, count: int) -> list[Recording]:
    """Return so many recorded sessions, every second of them over several links."""
    return [record(seed * 1000 + number, resumable=number % 2 == 1) for number in range(count)]


def record(seed: int, *, resumable: bool) -> Recording:
    """Play one session between two random parties; return what the first of them heard."""
    dice = Random(seed)
    side = dice.choice(list(Side))
    listener = Person(side, dice.getrandbits(32), resumable, dice.choice([0, 1000, 8192]))
    other = replace(listener, side=Side(3 - side), seed=listener.seed + 1)
    return _Stage(Party(listener), Party(other), dice).play()


class _Stage:
    def __init__(self, here: Party, there: Party, dice: Random) -> None:
        self.here, self.there, self.dice = here, there, dice
        self.heard: list[list[bytes]] = [[]]

    def play(self) -> Recording:
        for step in range(STEPS):
            if self.here.person.resumable and step and step % 30 == 0:
                self._relink()
            if not self.here.over and not self.there.over:
                self.there.act()
                self.there.emit()
            self._move(self.dice.randint(1, 6))
        if not self.there.over:
            self.there.leave()
            self.there.emit()
        self._move(200)
        return Recording(self.here.person, tuple(tuple(link) for link in self.heard))

    def _move(self, most: int) -> None:
        for _ in range(most):
            if self.here.out:
                self._hand(self.there, self.here.out.popleft())
            if self.there.out:
                data = self.there.out.popleft()
                self.heard[-1].append(data)
                self._hand(self.here, data)

    def _hand(self, party: Party, data: bytes) -> None:
        for frame in party.decoder.feed(data):
            party.take(frame)

    def _relink(self) -> None:
        if self.here.over or self.there.over:
            return
        self.here.relink()
        self.there.relink()
        self.heard.append([])
