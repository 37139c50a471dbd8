"""F28 behind a relay: what the source was lost of is told and asked for as without one."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from flare_async.limits import KIB
from tests.faults.uploads import LIMITS, MODEL, summed
from tests.faults.world import Site
from tests.roles.federation import settle
from tests.roles.tree import tree

TWO = {"r1": "server", "r2": "server"}
MODES = ("splice", "cache", "reduce")


def offers(made):
    """Return what the site has on its shelf for whoever pulls it."""
    return list(made.clients["dies"].shelf._offers.values())


async def in_the_upload(made):
    """Wait until a part of the site's update is pulled."""
    while True:
        await anyio.sleep(0.0005)
        for offer in offers(made):
            moved = sum(channel.statistics().acknowledged for channel in offer.channels)
            if moved >= 100 * KIB:
                return


async def played(mode, act, workers, **options):
    """Run a round of sites below a relay while ``act(made)`` goes on."""
    network = {"bandwidth": 1e6}
    async with tree(TWO, workers, limits=LIMITS, network=network, mode=mode) as made:
        made.context.tasks.start_soon(act, made)
        with capture_logs() as logs:
            outcome = await summed(made, **options)
        await settle()
        left = {name: len(client.shelf._offers) for name, client in made.clients.items()}
        return outcome, [log for log in logs if log["event"] == "source_lost"], left


def placed(**steps):
    """Return three sites below the first relay."""
    return {("r1", site): Site(step, weight=step) for site, step in steps.items()}


@pytest.mark.parametrize("mode", MODES)
def test_f28_a_site_that_moves_to_another_relay_in_its_upload_counts_once(sim, mode):
    """It has died at the first one; its task is offered again behind the second."""
    workers = placed(first=1.0, dies=2.0)
    again = Site(2.0, weight=2.0)

    async def move(made):
        await in_the_upload(made)
        made.scopes["dies"].cancel()
        await anyio.sleep(20)
        await made.site("dies", again, "r2")

    outcome, lost, left = sim(lambda: played(mode, move, workers))
    assert outcome.status == {"first": "ok", "dies": "ok"}
    assert (workers["r1", "first"].finished, again.finished) == (1, 1)
    assert [log["total"] for log in lost] == [MODEL.nbytes]
    assert set(left.values()) == {0}


@pytest.mark.parametrize("mode", MODES)
def test_f28_a_site_that_does_not_come_back_to_its_relay_is_excluded(sim, mode):
    """The others' sum has the bits of a round without it."""

    async def leave(made):
        await in_the_upload(made)
        made.scopes["dies"].cancel()

    async def nothing(made):
        """Disturb nothing."""

    calm, *_ = sim(lambda: played(mode, nothing, placed(first=1.0, last=3.0)))
    workers = placed(first=1.0, dies=2.0, last=3.0)
    outcome, _, left = sim(lambda: played(mode, leave, workers, quorum=2))
    assert outcome.status == {"first": "ok", "dies": "failed", "last": "ok"}
    assert outcome.records["dies"].reason.startswith("result_source_lost: dies: the result of")
    assert outcome.digest == calm.digest
    assert outcome.seconds <= LIMITS.session_grace + 30
    assert left["first"] == left["last"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_f28_a_site_behind_a_relay_that_lost_its_update_gets_its_task_again(sim, mode):
    """It is still there: the next attempt goes the same way."""
    workers = placed(first=1.0, dies=2.0)

    async def withdraw(made):
        await in_the_upload(made)
        made.clients["dies"].shelf.withdraw(offers(made)[0])

    outcome, lost, left = sim(lambda: played(mode, withdraw, workers))
    assert outcome.status == {"first": "ok", "dies": "ok"}
    assert [worker.finished for worker in workers.values()] == [1, 2]
    assert len(lost) == 1
    assert set(left.values()) == {0}
