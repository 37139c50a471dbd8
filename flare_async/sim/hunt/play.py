"""One case, played: what came of it, with its story."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from flare_async.errors import FlareError, LocalProtocolError, SimDeadlock
from flare_async.jobs.events import (
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
    SiteFinished,
    SiteStarted,
)
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.run import Run
from flare_async.jobs.work import JOB_MODULE
from flare_async.roles.outcome import SiteStatus
from flare_async.sim.env import ignore
from flare_async.sim.hunt.case import PLAIN, Case
from flare_async.sim.hunt.env import HuntEnv
from flare_async.sim.load import loaded_recipe
from flare_async.sim.play import changed
from flare_async.sim.virtual.env import FOLDER
from flare_async.testing.loop import run_sim

__all__ = ["Job", "Outcome", "check_job", "play_case"]

HOUR: Final = 3600.0
ROUND: Final = 600.0  # virtual seconds: several times what the slowest one takes


@dataclass(frozen=True, slots=True)
class Job:
    """A job file, and how it is played."""

    path: Path
    clients: int
    rounds: int | None = None
    seed: int = 7

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites' names."""
        return tuple(f"site-{number}" for number in range(1, self.clients + 1))


@dataclass(slots=True)
class Outcome:
    """A case that has ended: the run, what broke it otherwise, and what happened, line by line."""

    case: Case
    run: Run | None = None
    stuck: str = ""  # a deadlock: what waits, and where
    broken: str = ""  # tasks that are left, exceptions that nobody has handled, user code's own
    checked: str = ""  # what the job's check(run) says
    absent: tuple[str, ...] = ()  # sites that did not come to the start in time
    story: list[str] = field(default_factory=list)
    folder: str = ""  # of the run, which is gone

    def named(self, text: str) -> str:
        """Return a text with the folder's name in the place of its path: that is a new one."""
        return text.replace(self.folder, str(FOLDER)) if self.folder else text

    @property
    def digest(self) -> str:
        """The last model's digest; empty without a model."""
        return "" if self.run is None or self.run.model is None else self.run.model.model_digest()

    def participants(self) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
        """Return who is in each round's result."""
        if self.run is None:
            return ()
        return tuple(
            (
                record.number,
                record.task,
                tuple(sorted(one.site for one in record.sites if one.status is SiteStatus.OK)),
            )
            for record in self.run.history.rounds
        )


def check_job(job: Job, recipe: Recipe) -> None:
    """Refuse what no case of the job could begin with. Raises ConfigError."""

    async def begin() -> None:
        HuntEnv(PLAIN, job.clients, job.seed, ignore, FOLDER).start(recipe)

    recipe = changed(recipe, num_rounds=job.rounds)
    run_sim(begin, seed=PLAIN.seed, horizon=HOUR)


def play_case(job: Job, case: Case) -> Outcome:
    """Play a case with a recipe that is loaded anew, and never raise what it fails with.

    Raises:
        ConfigError: the job or an option cannot be used.
    """
    with (
        loaded_recipe(job.path, {"seed": job.seed}) as found,
        TemporaryDirectory(prefix="flare-hunt-") as folder,
    ):
        outcome = Outcome(case, folder=folder)
        recipe = changed(found, num_rounds=job.rounds)
        check = getattr(sys.modules.get(JOB_MODULE), "check", None)
        try:
            horizon = HOUR + ROUND * recipe.num_rounds
            playing = partial(_play, job, case, recipe, outcome)
            run_sim(playing, seed=case.seed, permute=case.permute, horizon=horizon)
        except SimDeadlock as exc:
            outcome.stuck = str(exc)
        except LocalProtocolError as exc:
            outcome.broken = str(exc)
        if outcome.run is not None and callable(check):
            outcome.checked = _checked(check, outcome.run)
    return outcome


async def _play(job: Job, case: Case, recipe: Recipe, outcome: Outcome) -> None:
    def note(event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            outcome.absent = tuple(site for site in job.sites if site not in event.sites)
        line = told(event)
        if line:
            outcome.story.append(outcome.named(line))

    env = HuntEnv(case, job.clients, job.seed, note, Path(outcome.folder))
    outcome.run = await recipe.run(env, check=False)


def _checked(check: Callable[[Run], object], run: Run) -> str:
    try:
        check(run)
    except FlareError as exc:
        return str(exc)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - what the user's check raises, it says
        return f"{type(exc).__name__}: {exc}"
    return ""


def told(event: RunEvent) -> str:
    """Return a line of the story; empty for what is not worth one."""
    match event:
        case RoundStarted(number, task, sites):
            return f"round {number} ({task}) begins with {len(sites)} sites"
        case SiteStarted(number, site):
            return f"round {number}: {site} is asked"
        case SiteFinished(number, record):
            why = f": {record.reason}" if record.reason else ""
            return f"round {number}: {record.site} is {record.status}{why}"
        case RoundFinished(record):
            return f"round {record.number} ends with {record.arrived} updates"
        case RunFinished(status, cause):
            return f"the run is {status}" + (f": {cause}" if cause else "")
        case _:
            return ""
