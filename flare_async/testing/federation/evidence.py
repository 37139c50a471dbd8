"""What a simulated federation leaves behind: facts for invariants, and a story for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flare_async.roles.outcome import SiteRecord
from flare_async.testing.federation.setting import Setting

__all__ = ["Arrival", "Buffered", "Evidence", "Got", "Kept", "Receipt", "Told"]


@dataclass(frozen=True, slots=True)
class Told:
    """How a site's part of one try of a round ended, as an observer was told."""

    number: int
    trial: int
    record: SiteRecord
    over: bool  # whether that try had ended already


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that a site got for its result."""

    number: int
    trial: int
    site: str
    state: str


@dataclass(frozen=True, slots=True)
class Got:
    """A model that a site got for its task."""

    number: int
    trial: int
    site: str
    digest: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """An update as the server was given it; ``origin`` is who really made it."""

    number: int
    trial: int
    site: str
    origin: object


@dataclass(frozen=True, slots=True)
class Kept:
    """A round that is durable: who is in it, and the digests of its model before and after."""

    number: int
    trial: int
    sites: tuple[tuple[str, float], ...]
    before: str
    after: str
    expected: str  # what a run without faults makes of the same participants


@dataclass(frozen=True, slots=True)
class Buffered:
    """Bytes that somebody held at a moment, and the most that he may."""

    where: str
    nbytes: int
    most: int


@dataclass(slots=True)
class Evidence:
    """The facts of one run."""

    setting: Setting
    story: list[tuple[float, str]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    asked: list[tuple[int, int, str]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    given: dict[tuple[int, int], str] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    ended: dict[tuple[int, int], str] = field(default_factory=dict)
    connects: Counter[str] = field(default_factory=Counter)
    dials: list[tuple[float, str]] = field(default_factory=list)
    buffered: list[Buffered] = field(default_factory=list)  # those beyond their bound
    control: list[tuple[str, float, float]] = field(default_factory=list)  # who, seconds, bound
    impostures: list[str] = field(default_factory=list)  # of those who are not who they say
    doubles: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # what ended the run, if nothing should have
    stuck: list[str] = field(default_factory=list)  # waits that did not end
    counted: Counter[tuple[int, str]] = field(default_factory=Counter)  # by a journal
    struck: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    healed: float | None = None
    finished: float | None = None
    pending: str = ""  # where every task waited at the end of the play

    def tell(self, when: float, what: str) -> None:
        """Add a line to the story."""
        self.story.append((when, what))

    @property
    def rounds(self) -> dict[int, Kept]:
        """The durable rounds by number; where one was kept twice, the last."""
        return {kept.number: kept for kept in self.kept}
