"""The command ``python -m flare_async.sim hunt``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from flare_async.sim.commands import Doing

if TYPE_CHECKING:
    from flare_async.sim.hunt.hunter import Hunt, Verdict

__all__ = ["Asked", "command"]

LEAST: Final = 5
REPORTED: Final = 3
EPILOG: Final = """\b
Examples:
  python -m flare_async.sim hunt job.py --seeds 1000
  python -m flare_async.sim hunt job.py --seed 17          one seed, with all that is known of it

\b
A job file may have a function check(run), which raises where a run is not what it should be.
Exit status: 0 when all seeds are clean, 1 when one fails, 2 for what cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options, as they were given."""

    job: Path
    seeds: int
    first: int
    seed: int | None
    clients: int | None
    rounds: int | None
    job_seed: int
    processes: int
    any_order: bool
    as_json: bool


@click.command("hunt", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--seeds", type=click.IntRange(min=1), default=300, help="How many.")
@click.option("--first", type=click.IntRange(min=0), default=0, help="The first of them.")
@click.option("--seed", type=click.IntRange(min=0), help="Replay one.")
@click.option("--clients", type=click.IntRange(min=1), show_default="1 more than are needed")
@click.option("--rounds", type=click.IntRange(min=1), show_default="the job's", help="How many.")
@click.option("--job-seed", type=click.IntRange(min=0), default=7, help="The same in all cases.")
@click.option("--processes", type=click.IntRange(min=1), default=2, help="Which share the seeds.")
@click.option("--any-order", is_flag=True, help="Bits may depend on the order of arrival.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON document.")
def command(**given: object) -> Doing:
    """Play JOB again and again in virtual time: in other orders, over links that fail.

    The real server, relays, clients and recipe run on simulated ports. Every seed is another case;
    one that fails is made smaller and told, with the command that replays it.
    """
    asked = Asked(**given)  # type: ignore[arg-type]
    return lambda results: run(asked, results)


def run(asked: Asked, results: TextIO) -> int:
    """Hunt, or replay one seed."""
    from flare_async.sim.hunt.part import only_errors

    only_errors()
    hunt, clients = hunt_of(asked)
    if asked.seed is not None:
        return replay(asked, hunt, clients, results)
    began = time.perf_counter()
    failing = [verdict for verdict in verdicts(asked, hunt, clients) if verdict.findings]
    tell(asked, hunt, clients, failing, results)
    if sys.stderr.isatty():
        sys.stderr.write(f"{asked.seeds} seeds in {time.perf_counter() - began:.1f} s\n")
    return 1 if failing else 0


def hunt_of(asked: Asked) -> tuple[Hunt, int]:
    """Return the hunt and the number of clients; refuse what no case could play.

    Raises:
        ConfigError: the job cannot be loaded, or not with so many clients in virtual time.
    """
    from flare_async.sim.hunt.hunter import Hunt
    from flare_async.sim.hunt.judge import Judge
    from flare_async.sim.hunt.play import Job, check_job
    from flare_async.sim.load import loaded_recipe

    with loaded_recipe(asked.job, {"seed": asked.job_seed}) as found:
        clients = asked.clients or max(LEAST, found.min_clients + 1)
        may_lose = found.min_clients < clients
        job = Job(asked.job, clients, asked.rounds, asked.job_seed)
        check_job(job, found)
    return Hunt(job, Judge(job, asked.any_order), may_lose), clients


def verdicts(asked: Asked, hunt: Hunt, clients: int) -> list[Verdict]:
    """Return the verdicts of all seeds, in their order; what fails is told as it is found."""
    from flare_async.sim.hunt.hunter import in_processes, tell_found

    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.processes == 1:
        found = []
        for seed in seeds:
            found.append(hunt.verdict(seed))
            tell_found(found[-1])
        return found
    flags = str(int(asked.any_order)), str(int(hunt.may_lose))
    words = (str(asked.job), str(clients), str(asked.rounds or 0), str(asked.job_seed), *flags)
    return sorted(in_processes(words, seeds, asked.processes), key=lambda one: one.seed)


def replay(asked: Asked, hunt: Hunt, clients: int, results: TextIO) -> int:
    """Play one seed twice, and tell what it shows."""
    from flare_async.sim.hunt.hunter import OTHER_STORY

    seed = asked.seed or 0
    verdict = hunt.verdict(seed)
    same = hunt.verdict(seed) == verdict
    if asked.as_json:
        document = {**asdict(verdict), "reproducible": same}
        results.write(json.dumps(document, indent=1) + "\n")
    elif verdict.findings:
        results.write(hunt.report(verdict, command_of(asked, seed, clients)) + "\n")
    else:
        clean = f"is clean: {verdict.options}" if same else f"is not to be judged: {OTHER_STORY}"
        results.write(f"seed {seed} {clean}\n")
    return 1 if verdict.findings or not same else 0


def tell(asked: Asked, hunt: Hunt, clients: int, failing: list[Verdict], results: TextIO) -> None:
    """Tell which seeds fail, and of the first ones all that is known."""
    if asked.as_json:
        found = [asdict(verdict) for verdict in failing]
        document = {"seeds": asked.seeds, "first": asked.first, "failing": found}
        results.write(json.dumps(document, indent=1) + "\n")
        return
    told = (hunt.report(one, command_of(asked, one.seed, clients)) for one in failing)
    results.writelines(f"{report}\n\n" for report in islice(told, REPORTED))
    if failing:
        numbers = ", ".join(str(verdict.seed) for verdict in failing[:100])
        results.write(f"{len(failing)} of {asked.seeds} seeds fail: {numbers}\n")
    else:
        results.write(f"{asked.seeds} seeds, all clean\n")


def command_of(asked: Asked, seed: int, clients: int) -> str:
    """Return the command that replays a seed."""
    words = ["python", "-m", "flare_async.sim", "hunt", str(asked.job), "--seed", str(seed)]
    words += ["--clients", str(clients), "--job-seed", str(asked.job_seed)]
    words += ["--rounds", str(asked.rounds)] if asked.rounds else []
    words += ["--any-order"] if asked.any_order else []
    return shlex.join(words)
