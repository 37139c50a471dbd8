"""Scenarios, and the verdict on one seed of one: what was drawn, and what broke."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from flare_async.errors import LocalProtocolError, SimDeadlock
from flare_async.testing.federation.books import Books
from flare_async.testing.federation.evidence import Evidence
from flare_async.testing.federation.play import Federation
from flare_async.testing.federation.setting import Mode, Setting
from flare_async.testing.invariants import Violation, violations_of
from flare_async.testing.loop import SimLoop, run_sim

__all__ = ["HORIZON", "Scenario", "Verdict", "play"]

HORIZON: Final = 600.0  # virtual seconds: several times what the slowest run takes
Steps: TypeAlias = list[tuple[float, str, str]]
Draw: TypeAlias = Callable[[random.Random, Mode], Setting]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A family of settings: ``draw(dice, mode)`` makes one, ``about`` says what goes wrong."""

    name: str
    about: str
    draw: Draw

    def setting(self, seed: int, mode: Mode | None = None) -> Setting:
        """Return what a seed stands for: odd seeds are liveness, even ones safety, unless told."""
        chosen: Mode = mode or ("liveness" if seed % 2 else "safety")
        drawn = self.draw(random.Random(f"{seed}:{self.name}:options"), chosen)
        return dataclasses.replace(drawn, scenario=self.name, seed=seed, mode=chosen)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run has shown."""

    setting: Setting
    evidence: Evidence
    violations: tuple[Violation, ...]
    trace_hash: str = ""
    steps: Steps = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether all invariants hold."""
        return not self.violations


def play(
    setting: Setting,
    *,
    trace: bool = False,
    schedule: int | None = None,
    horizon: float = HORIZON,
    books: Books | None = None,
) -> Verdict:
    """Run a setting on a loop of its own and judge it.

    ``schedule`` is the seed of the order of steps, where that is to be another one than the
    setting's. With ``trace`` every step is kept. A run that goes on beyond ``horizon`` hangs.
    ``books`` are closed from time to time, where there would be too much to remember.
    """
    federation = Federation(setting, books)
    steps: Steps | None = [] if trace else None
    evidence = federation.evidence
    seed = setting.seed if schedule is None else schedule
    try:
        run_sim(federation.run, seed=seed, horizon=horizon, trace=steps)
    except SimDeadlock as exc:
        head, _, waiting = str(exc).partition("\n")
        evidence.stuck.append(head)
        evidence.pending = waiting
    except LocalProtocolError as exc:  # tasks are left, or nobody handled an exception
        evidence.troubles.append(str(exc))
    except Exception as exc:  # noqa: BLE001 - whatever it is, a run must not end so
        evidence.troubles.append(innermost(exc))
    found = (*(books.broken if books else ()), *violations_of(evidence))
    return Verdict(setting, evidence, found, hash_of(steps), steps or [])


def hash_of(steps: Steps | None) -> str:
    """Return the hash of a trace, as the loop makes it; empty without one."""
    if steps is None:
        return ""
    loop = SimLoop(trace=steps)
    try:
        return loop.trace_hash()
    finally:
        loop.close()


def innermost(error: BaseException) -> str:
    """Return what an error is, without the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
