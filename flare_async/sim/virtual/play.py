"""A recipe played in virtual time: the real server, relays, clients and recipe, simulated ports."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from flare_async.jobs.loops import calm_collector
from flare_async.jobs.recipe import Recipe
from flare_async.sim.virtual.disk import LaidOutDisk
from flare_async.sim.virtual.env import FOLDER, VirtualEnv
from flare_async.sim.virtual.run import Events, Held, VirtualRun
from flare_async.sim.virtual.setting import VirtualSetting
from flare_async.sim.virtual.sizes import sized
from flare_async.sim.virtual.staged import Staged, watched
from flare_async.testing.loop import run_sim
from flare_async.testing.trace import HashedTrace

__all__ = ["play_virtual"]

YOUNG_OF_SIZES: Final = 10_000_000  # a tenth of the time went into looking through what lives on


def play_virtual(recipe: Recipe, setting: VirtualSetting) -> VirtualRun:
    """Run the recipe to its end in virtual time and return what happened; the seed decides all.

    A run that fails is a result as well: ``VirtualRun.run.check`` raises what it failed with.

    Raises:
        ConfigError: recipe and setting do not fit; nothing was started.
        SimDeadlock: nothing could happen any more, or the run took longer than ``horizon``.
        LocalProtocolError: something reached for the real world: a socket, a thread, a process;
            where a train function does, its training fails.
    """
    trace = HashedTrace() if setting.trace else None
    calm = calm_collector(YOUNG_OF_SIZES) if setting.payload == "sizes" else calm_collector()
    with calm, TemporaryDirectory(prefix="flare-virtual-") as folder:
        playing = partial(_play, recipe, setting, Path(folder))
        run = run_sim(playing, seed=setting.seed, horizon=setting.horizon, trace=trace)
    return run if trace is None else replace(run, step_hash=trace.hexdigest())


async def _play(recipe: Recipe, setting: VirtualSetting, folder: Path) -> VirtualRun:
    events, staged = Events(folder), Staged()
    env = VirtualEnv(setting, lambda event: events.seen.append((env.clock.now(), event)), folder)
    playing = sized(recipe, setting.model_bytes) if setting.payload == "sizes" else recipe
    run = await watched(playing, staged).run(env, check=False)
    run.folder = FOLDER  # the real one ends with the run
    hosts = {} if env.network is None else env.network.hosts
    others = env.disk.others() if isinstance(env.disk, LaidOutDisk) else {}
    return VirtualRun(
        run=run,
        seconds=env.clock.now(),
        events=events.seen,
        hosts=hosts,
        held=_held(env, staged),
        files={**env.disk.files, **others},
        trace_hash=events.hash(hosts),
    )


def _held(env: VirtualEnv, staged: Staged) -> dict[str, Held]:
    if env.tree is None:
        return {}
    credit = env.tree.context.budget.peak
    found = {"server": Held(credit=credit, staged=staged.peak, spilled=staged.spilled)}
    for name, relay in env.tree.relays.items():
        found[name] = Held(credit=relay.context.budget.peak, cached=relay.cache.peak)
    return found
