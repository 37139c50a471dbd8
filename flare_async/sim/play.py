"""From options to a finished run, its report and its figures."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from flare_async.errors import MissingExtra
from flare_async.jobs.loops import calm_collector, new_loop
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.run import Run
from flare_async.sim.env import SimEnv
from flare_async.sim.facts import Extras, RunFacts, facts_of
from flare_async.sim.interrupt import Interrupts
from flare_async.sim.live import watching
from flare_async.sim.load import loaded_recipe
from flare_async.sim.next_steps import COMMAND
from flare_async.sim.options import Options
from flare_async.sim.report import write_report

__all__ = ["Played", "changed", "play"]

CLIENTS: Final = 8
ALPHA: Final = 0.5
PICTURE: Final = "learning_curve.png"


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """A run that has ended, with all that is said about it."""

    run: Run
    facts: RunFacts
    extras: Extras


def play(options: Options, messages: TextIO, interrupts: Interrupts) -> Played:
    """Run the job, write its report and picture; a failed run is a result as well.

    Raises:
        ConfigError: an option, the job file or the workspace cannot be used.
        KeyboardInterrupt: interrupted before the run began or after it ended.
    """
    with _recipe(options) as (recipe, clients), watching(messages, quiet=options.quiet) as observer:
        env = SimEnv(
            num_clients=clients,
            num_threads=options.threads,
            workers=options.workers,
            transport=options.transport,
            seed=options.seed,
            workspace_root=options.workspace,
            observer=observer,
        )
        run = _run(recipe, env, interrupts)
    return _conclude(run, options, env, messages)


@contextmanager
def _recipe(options: Options) -> Iterator[tuple[Recipe, int]]:
    if options.job is None:
        from flare_async.sim.dataset import split_digits
        from flare_async.sim.digits import recipe
        from flare_async.sim.digits_extras import warm_up

        clients = options.clients or CLIENTS
        split_digits(clients, _alpha(options), options.seed)  # refused here, not at every site
        warm_up()
        made = recipe(options.seed, _alpha(options))
        quorum = clients - clients // 4
        yield changed(made, num_rounds=options.rounds, min_clients=quorum), clients
        return
    offered: dict[str, object] = {"seed": options.seed}
    if options.alpha is not None:
        offered["alpha"] = options.alpha
    with loaded_recipe(options.job, offered) as found:
        clients = options.clients or max(CLIENTS, found.min_clients)
        yield changed(found, num_rounds=options.rounds), clients


def changed(recipe: Recipe, **changes: float | None) -> Recipe:
    """Return the recipe with other arguments, where they are given. Raises ConfigError."""
    given = {name: value for name, value in changes.items() if value is not None}
    made: object = recipe  # the base class is no dataclass, most recipes are
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        copy = dataclasses.replace(made, **given)  # checks the values anew
        if not isinstance(copy, Recipe):
            return recipe
        copy.keep_additions_of(recipe)
        return copy
    for name, value in given.items():
        setattr(recipe, name, value)
    recipe.check_basics()
    return recipe


def _run(recipe: Recipe, env: SimEnv, interrupts: Interrupts) -> Run:
    found: list[Run] = []

    async def drive() -> None:
        asyncio.get_running_loop().set_exception_handler(_skip_interrupts)
        async with env.start(recipe) as run:
            found.append(run)
            interrupts.watch(run)

    try:
        with calm_collector(), asyncio.Runner(loop_factory=new_loop) as runner:
            if interrupts.count == 0:
                runner.run(drive())
    except KeyboardInterrupt:
        if not found:
            raise
    return found[0]


def _skip_interrupts(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # An interrupt inside user code ends its task and all around it: that is no news.
    error = context.get("exception")
    if isinstance(error, BaseExceptionGroup):
        error = error.split(KeyboardInterrupt)[1]
    if error is not None and not isinstance(error, KeyboardInterrupt):
        loop.default_exception_handler(context)


def _conclude(run: Run, options: Options, env: SimEnv, messages: TextIO) -> Played:
    facts = facts_of(run)
    extras = Extras(again=_again(options))
    if options.job is None:
        extras = _of_digits(run, options, env.sites)
    write_report(facts, extras)
    if run.get_status() == "aborted":
        return Played(run, facts, extras)  # somebody waits for the end
    try:
        run.history.plot(facts.folder / PICTURE)
    except MissingExtra as exc:
        messages.write(f"note: no {PICTURE}: {exc}\n")
    return Played(run, facts, extras)


def _of_digits(run: Run, options: Options, sites: Sequence[str]) -> Extras:
    from flare_async.sim.baselines import Setting
    from flare_async.sim.digits_extras import digits_extras

    rounds = sum(record.task == "train" for record in run.history.rounds)
    setting = Setting(len(sites), rounds, _alpha(options), options.seed)
    return digits_extras(run, setting, sites, _again(options))


def _alpha(options: Options) -> float:
    return ALPHA if options.alpha is None else options.alpha


def _again(options: Options) -> str:
    words = [COMMAND] if options.job is None else [COMMAND, shlex.quote(str(options.job))]
    for name in ("clients", "rounds", "alpha"):
        value = getattr(options, name)
        if value is not None:
            words.append(f"--{name} {value}")
    return " ".join(words)
