"""F43: a pull or a round that is cancelled at any await gives everything back.

The next one is whole. On a simulated loop and, over tcp, on both real ones.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.testing import cancel_everywhere
from tests.faults.cancelling import LIMITS, LOOPS, linked, real_loops
from tests.roles.federation import MODEL as SMALL
from tests.roles.federation import Federation, Seen, Trains, expected, federation, values
from tests.transfer.pulling import big, pulling, same

MODEL = big(3)
PULLS = [("sim", "sim"), *((scheme, loop) for scheme in ("memory", "tcp") for loop in LOOPS)]


@asynccontextmanager
async def an_offer(scheme):
    """Yield a world and an offered model."""
    async with pulling(lambda: linked(scheme), LIMITS) as world:
        yield world, world.shelf.put(MODEL, readers=["connector"]).ref


async def pull(state):
    """Fetch the model."""
    world, ref = state
    assert same(await world.fetch(ref), MODEL)


async def can_pull(state):
    """Nothing of the cancelled pull is left, and the next one succeeds."""
    await pull(state)
    await state[0].pair.round_trip()
    assert state[0].pulls() == []


@pytest.mark.parametrize(("scheme", "loop"), PULLS)
def test_f43_fetching_a_model(scheme, loop):
    """A pull that is cancelled gives everything back, and its memory is used by nobody else."""
    found = cancel_everywhere(
        pull, given=lambda: an_offer(scheme), check=can_pull, loop_factory=LOOPS.get(loop)
    )
    assert found.cancelled > 0


@asynccontextmanager
async def a_federation():
    """Yield three sites that train for a second each."""
    workers = {f"s{number}": Trains(number, seconds=1) for number in range(3)}
    async with federation(workers, scheme="sim") as made:
        yield made


async def a_round(made):
    """Run one round."""
    await made.play(0)


async def next_round_works(made):
    """The same sessions carry the next round."""
    assert made.network.made == 3
    _, model = await made.play(1)
    assert values(model) == expected((0, 1), (1, 1), (2, 1))


def test_f43_a_round():
    """A round that is cancelled anywhere takes back its tasks; the next one is whole."""
    found = cancel_everywhere(a_round, given=a_federation, check=next_round_works)
    assert found.cancelled > 4


class Boom(Exception):
    """Raised by the body of a block."""


async def raise_at_the_first_update(made):
    """Run a round whose body raises."""
    async with made.cohort.round(RoundTask("job", 0, 1), SMALL) as updates:
        async for _ in updates:
            raise Boom


def test_f43_a_body_that_raises():
    """The error leaves the block as it is; a cancellation on the way out is not lost."""
    cancel_everywhere(
        raise_at_the_first_update, given=a_federation, check=next_round_works, raises=Boom
    )


@asynccontextmanager
async def a_real_federation():
    """Yield three sites that are connected over tcp."""
    clock, network, seen = LoopClock(), Transports(LIMITS), Seen()
    workers = {f"s{number}": Trains(number, seconds=0.003 * number) for number in range(3)}
    async with open_context(clock, SeededRandom(1), network, LIMITS) as context:
        server = Server(context)
        async with server.listen("tcp://127.0.0.1:0") as address:
            cohort = Cohort(server, list(workers), seen, None)
            made = Federation(server, cohort, seen, {}, network, address)
            for name, worker in workers.items():
                context.tasks.start_soon(made.join, name, worker)
            await server.wait_for(list(workers), len(workers))
            yield made


async def links_lived_on(made):
    """The same links, not only the same sessions, carry the next round."""
    _, model = await made.play(1)
    assert values(model) == expected((0, 1), (1, 1), (2, 1))
    assert [session.epoch for session in made.server.sites.values()] == [0, 0, 0]


@real_loops
def test_f43_a_round_over_tcp(loop):
    """A round's end, whenever it comes, poisons no link of a site."""
    found = cancel_everywhere(
        a_round, given=a_real_federation, check=links_lived_on, loop_factory=LOOPS[loop]
    )
    assert found.cancelled > 4


@real_loops
def test_f43_a_body_that_raises_over_tcp(loop):
    """The same when the round ends by an error of its own."""
    cancel_everywhere(
        raise_at_the_first_update,
        given=a_real_federation,
        check=links_lived_on,
        raises=Boom,
        loop_factory=LOOPS[loop],
    )
