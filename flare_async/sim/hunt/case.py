"""One case of a hunt: what a seed stands for."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from flare_async.roles.relay import RelayMode
from flare_async.testing import Cut, Delay, Fault, Freeze, ResetInFrame, Slice

__all__ = ["PLAIN", "Case", "Death", "drawn_case"]

MODES: Final[tuple[RelayMode, ...]] = ("splice", "cache")
RELAYED: Final = 0.25  # of the cases
CRASHING: Final = 0.35  # of the cases with faults
MOST_FAULTS: Final = 3
Death: TypeAlias = tuple[int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is special about a run; times are virtual seconds.

    ``permute`` lets steps that are ready together run in the seed's order. ``latency`` and
    ``seconds`` bound how long bytes travel and tasks take. ``crash`` is the probability that a
    task's trainer dies. ``lost`` names (round, kind of task, site) whose trainer dies for certain.
    """

    seed: int
    permute: bool = True
    latency: tuple[float, float] = (0.0, 0.0)
    seconds: tuple[float, float] = (0.0, 0.0)
    relays: int = 0
    relay_mode: RelayMode = "splice"
    crash: float = 0.0
    faults: tuple[Fault, ...] = ()
    lost: frozenset[Death] = frozenset()

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong in it."""
        return not self.faults and not self.crash and not self.lost

    def line(self) -> str:
        """Return what differs from the plainest run, in one line."""
        told = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name not in {"seed", "permute"} and getattr(self, field.name) != field.default
        ]
        order = "the order of steps" if self.permute else "nothing, in the plain order of steps"
        return ", ".join(told) or order

    def without(self) -> Iterator[tuple[str, Case]]:
        """Yield the case without each of the things that are special about it."""
        for at, fault in enumerate(self.faults):
            rest = (*self.faults[:at], *self.faults[at + 1 :])
            yield f"without {fault!r}", dataclasses.replace(self, faults=rest)
        if self.crash:
            yield "without trainers that die", dataclasses.replace(self, crash=0.0)
        if self.relays:
            yield "without relays", dataclasses.replace(self, relays=0, relay_mode="splice")
        if self.latency != (0.0, 0.0):
            yield "without latency", dataclasses.replace(self, latency=(0.0, 0.0))
        if self.seconds != (0.0, 0.0):
            yield "with trainings of no length", dataclasses.replace(self, seconds=(0.0, 0.0))
        if self.permute:
            yield "in the plain order of steps", dataclasses.replace(self, permute=False)


PLAIN: Final = Case(seed=0, permute=False)


def drawn_case(seed: int, sites: tuple[str, ...], *, may_lose: bool) -> Case:
    """Return the case of a seed: even ones are calm, in odd ones something goes wrong.

    ``may_lose`` says that a round may end without some of its sites, so trainers may die.
    """
    dice = random.Random(f"{seed}:hunt")
    latency = dice.choice((0.0, 0.001, 0.05))
    case = Case(
        seed=seed,
        latency=(0.0, latency * (1 + dice.random())),
        seconds=(0.0, dice.choice((0.0, 0.01, 1.0, 30.0)) * (1 + dice.random())),
        relays=2 if len(sites) > 2 and dice.random() < RELAYED else 0,
        relay_mode=dice.choice(MODES),
    )
    case = case if case.relays else dataclasses.replace(case, relay_mode="splice")
    if seed % 2 == 0:
        return case
    crash = dice.uniform(0.02, 0.2) if may_lose and dice.random() < CRASHING else 0.0
    wanted = range(dice.randint(0 if crash else 1, MOST_FAULTS))
    faults = tuple(drawn_fault(dice, dice.choice(sites)) for _ in wanted)
    return dataclasses.replace(case, crash=crash, faults=faults)


def drawn_fault(dice: random.Random, site: str) -> Fault:
    """Return something that a session survives.

    No flipped bit: only tensors have digests, and a flip in a message costs or changes an update.
    """
    at = round(dice.uniform(0.0, 5.0), 3)
    match dice.randrange(6):
        case 0:
            return Cut(after_bytes=dice.randint(200, 20_000), site=site)
        case 1:
            return Cut(at=at, site=site)
        case 2:
            return Freeze(at=at, heals=round(at + dice.uniform(0.1, 20.0), 3), site=site)
        case 3:
            return ResetInFrame(dice.choice(("head", "payload", "last_byte")), site=site)
        case 4:
            return Slice(dice.randint(1, 300), varied=True, site=site)
        case _:
            return Delay(0.1, jitter=2.0, site=site)
