"""Judges what is over and forgets it, so that a federation can play for as long as it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flare_async.testing.federation.evidence import Evidence
from flare_async.testing.invariants import Violation, violations_of

__all__ = ["Books"]

STORY = 200  # lines that are kept
DIALS = 2000


@dataclass(slots=True)
class Books:
    """Closes the books of all rounds but the last two, ``every`` so many rounds.

    ``closed`` is told the number of the round each time; ``broken`` is what was found so far.
    """

    every: int
    closed: Callable[[int], None]
    broken: list[Violation] = field(default_factory=list)

    def kept(self, evidence: Evidence, number: int) -> None:
        """Take note that a round is kept; judge what lies before it when it is time."""
        if self.every and number and number % self.every == 0:
            self.broken += violations_of(split(evidence, number - 1))
            self.closed(number)


def split(evidence: Evidence, before: int) -> Evidence:
    """Take the facts of rounds before ``before`` out of the evidence and return them alone."""
    old = Evidence(evidence.setting)
    for name in ("told", "receipts", "got", "arrivals", "kept"):
        facts = getattr(evidence, name)
        setattr(old, name, [one for one in facts if one.number < before])
        setattr(evidence, name, [one for one in facts if one.number >= before])
    old.asked = [one for one in evidence.asked if one[0] < before]
    evidence.asked = [one for one in evidence.asked if one[0] >= before]
    for name in ("given", "ended"):
        facts = getattr(evidence, name)
        setattr(old, name, {key: value for key, value in facts.items() if key[0] < before})
        setattr(evidence, name, {key: value for key, value in facts.items() if key[0] >= before})
    old.buffered, evidence.buffered = evidence.buffered, []
    old.control, evidence.control = evidence.control, []
    old.dials = evidence.dials
    evidence.dials = evidence.dials[-DIALS:]
    del evidence.story[:-STORY]
    return old
