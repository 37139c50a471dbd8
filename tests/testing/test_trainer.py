"""The simulated trainer: seeded seconds, seeded endings, bounded slots; and spreads."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest

from flare_async.errors import ConfigError, TrainerOutOfMemory, TrainerSignalled, TrainingFailed
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.loop import run_sim
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import SimTrainer, TrainerModel


def shouted(site: str, seconds: float) -> str:
    """Return what a task of these tests gives."""
    return site.upper()


def make_trainer(model: TrainerModel, seed: int = 1, **options) -> SimTrainer[str, str]:
    """Return a trainer of tasks that are the names of their sites."""
    clock, dice = LoopClock(), SeededRandom(seed)
    return SimTrainer(clock, dice, model, site_of=str, finish=shouted, **options)


async def timed(trainer: SimTrainer[str, str], site: str) -> tuple[str, float]:
    """Return the result and the virtual second at which it came."""
    result = await trainer.run(site)
    return result, asyncio.get_running_loop().time()


def test_a_task_ends_after_its_seconds_with_what_finish_gives(sim):
    """Constant spreads draw nothing: the second is exact."""
    model = TrainerModel(duration=Spread.constant(30.0))
    assert sim(lambda: timed(make_trainer(model), "a")) == ("A", 30.0)


def test_a_site_keeps_its_speed_and_another_site_changes_nothing(sim):
    """The dice of a site are its own, so a seed's story stays when a site is added."""

    async def main(sites):
        trainer = make_trainer(TrainerModel(duration=Spread(10.0, 40.0)))
        return dict(zip(sites, [(await timed(trainer, s))[1] for s in sites], strict=True))

    alone, beside = sim(lambda: main(["b"])), sim(lambda: main(["a", "b"]))
    assert beside["b"] - beside["a"] == pytest.approx(alone["b"])


def test_slots_bound_how_many_train_at_once(sim):
    """Three tasks of 10 s in two slots take 20 s."""

    async def main():
        trainer = make_trainer(TrainerModel(duration=Spread.constant(10.0)), slots=2)
        ended = await asyncio.gather(*(timed(trainer, site) for site in "abc"))
        return [second for _, second in ended]

    assert sim(main) == [10.0, 10.0, 20.0]


def test_endings_come_as_often_as_their_probabilities(sim):
    """Crash and out-of-memory are typed errors; a hang ends when it is cancelled."""
    model = TrainerModel(Spread.constant(1.0), crash=0.2, hang=0.2, oom=0.2)

    async def main():
        trainer = make_trainer(model)
        tasks = [asyncio.ensure_future(trainer.run(f"site-{n}")) for n in range(500)]
        await asyncio.sleep(100)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [type(each) for each in found], trainer.ended

    kinds, ended = sim(main)
    counts = [kinds.count(kind) for kind in (TrainerSignalled, TrainerOutOfMemory)]
    assert all(70 <= count <= 130 for count in [*counts, kinds.count(asyncio.CancelledError)])
    assert sum(ended.values()) == 500
    assert issubclass(TrainerSignalled, TrainingFailed)


def test_a_cancelled_task_frees_its_slot(sim):
    """A hang with a deadline is what the round's deadline makes of it."""

    async def main():
        trainer = make_trainer(TrainerModel(hang=1.0), slots=1)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await trainer.run("a")
        return trainer.started, asyncio.get_running_loop().time()

    assert sim(main) == (2, 10.0)


def test_probabilities_that_exceed_one_together_are_refused():
    """The error names the sum."""
    with pytest.raises(ConfigError, match="exceed 1 together"):
        TrainerModel(crash=0.6, oom=0.6)


def test_a_spread_has_its_median_and_its_twentieth():
    """A twentieth of the draws lies beyond ``far``, half beyond the median."""
    dice = random.Random(3)
    draws = sorted(Spread(10.0, 30.0).draw(dice) for _ in range(10_000))
    assert statistics.median(draws) == pytest.approx(10.0, rel=0.05)
    assert draws[9500] == pytest.approx(30.0, rel=0.06)
    assert draws[-1] <= 10.0 * 3.0**2.0001


@pytest.mark.parametrize("wrong", [(-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_a_spread_that_cannot_be_is_refused(wrong):
    """The error names the field."""
    with pytest.raises(ConfigError, match=r"Spread\."):
        Spread(*wrong)


def test_the_same_seed_gives_the_same_times():
    """A run is a function of its seed."""

    async def main():
        trainer = make_trainer(TrainerModel(Spread(5.0, 50.0), Spread(1.0, 2.0)))
        return [await timed(trainer, site) for site in ("a", "b", "a")]

    assert run_sim(main, seed=1) == run_sim(main, seed=2)
