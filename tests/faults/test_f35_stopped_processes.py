"""F34 and F35 with real processes: whoever was stopped, or blocked, declares nobody else dead."""

from __future__ import annotations

import anyio
import pytest

from flare_async.limits import Limits
from flare_async.net.registry import Transports
from tests.faults.real_child import MODEL, SITES, STOPPED
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_process import child
from tests.faults.real_world import Validates, until, world

HASTY = Limits(**STOPPED)  # gives a silent link up after 0.6 s
PATIENT = Limits(**STOPPED | {"heartbeat_interval": 5.0, "handshake_timeout": 5.0})
PAUSE = 1.0  # longer than whoever is stopped would listen to silence
NOWHERE = "tcp://127.0.0.1:0"
BOTH = pytest.mark.parametrize("limits", [HASTY, PATIENT], ids=["hasty", "patient"])


class Counted:
    """A network that counts its dials."""

    def __init__(self, limits):
        self.inner, self.dials = Transports(limits), 0

    async def connect(self, address):
        """Count and connect."""
        self.dials += 1
        return await self.inner.connect(address)

    async def listen(self, address):
        """Listen."""
        return await self.inner.listen(address)


async def pause(process, given_up):
    """Stop a process, long enough for it to be late and for the others to have their verdict."""
    process.stop()
    await anyio.sleep(PAUSE)  # the fault itself: nothing is waited for
    await until(given_up)
    process.go_on()


@pytest.mark.slow
@BOTH
def test_f35_a_server_that_was_stopped_keeps_all_its_sessions(limits):
    """Hasty sites dial again and resume, patient ones notice nothing; every round is complete."""
    network = Counted(limits)

    async def main():
        async with child("server") as server, world((), network, limits, address=NOWHERE) as made:
            (address,) = await server.words()
            workers = [Validates() for _ in SITES]
            for site, worker in zip(SITES, workers, strict=True):
                made.start(site, worker, address=address)
            assert await server.words() == ["ready"]
            for number in ("0", "1", "2"):
                if number == "1":
                    await pause(server, lambda: limits is PATIENT or network.dials > 3)
                server.tell("round")
                assert await server.words() == [number, *SITES]
            same, ended, *epochs = await server.words()
            assert (same, ended, [len(worker.digests) for worker in workers]) == ("3", "0", [3] * 3)
            assert await server.words() == ["ended"]
            return epochs

    epochs = leaving_nothing(main)
    assert (epochs == ["0", "0", "0"]) == (limits is PATIENT)


async def served(limits, program, during=None):
    """Serve a site in a child and one here for a round; return the child's epoch and words."""
    sites = ("child", "here")
    async with (
        world(sites, Transports(limits), limits, address=NOWHERE) as made,
        child(*program, made.address, "0" if during else "1") as process,
    ):
        made.start("here", Validates())
        await made.server.wait_for(sites, 2)
        session = made.server.sites["child"]
        async with anyio.create_task_group() as group:
            if during is not None:
                group.start_soon(during, process, session)
            assert sorted(await made.validate(0, MODEL)) == list(sites)
        assert made.server.sites["child"] is session
        session.leave(0, "done")
        return session.epoch, await process.words()


@pytest.mark.slow
@BOTH
def test_f35_a_site_that_was_stopped_goes_on_with_its_task(limits):
    """A hasty server gives the link up and the site resumes; a patient one waits for it."""

    async def stopped(process, session):
        await pause(process, lambda: limits is PATIENT or not session.attached)

    epoch, words = leaving_nothing(lambda: served(limits, ("client", "child"), stopped))
    assert words == ["dismissed"]
    assert (epoch == 0) == (limits is PATIENT)


@pytest.mark.slow
def test_f34_a_site_whose_work_blocks_its_loop_is_named_and_loses_nothing():
    """It was blocked for longer than it would listen to silence itself."""
    epoch, words = leaving_nothing(lambda: served(PATIENT, ("client", "child")))
    assert (epoch, words) == (0, ["dismissed", "Blocks.run"])


@pytest.mark.slow
def test_f34_a_server_whose_callback_blocks_its_loop_names_it_and_loses_nobody():
    """The weighing of the first update blocks; all sites bring theirs over their first links."""

    async def main():
        async with (
            child("blocks", str(PAUSE)) as server,
            world((), Transports(PATIENT), PATIENT, address=NOWHERE) as made,
        ):
            (address,) = await server.words()
            for site in SITES:
                made.start(site, Validates(), address=address)
            server.tell("round")
            assert await server.words() == list(SITES)
            return await server.words()

    assert leaving_nothing(main) == ["0", "0", "0", "blocks.<locals>.weigh"]
