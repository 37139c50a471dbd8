"""The end of a load test: whose link is lost just then keeps nobody waiting."""

from __future__ import annotations

import asyncio
import os
import subprocess

import anyio
import pytest

from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context
from flare_async.sim.loadtest import host as hosts
from flare_async.sim.loadtest.host import HostFigures
from flare_async.sim.loadtest.server import listening
from flare_async.sim.loadtest.setting import Hosting, LoadSetting, load_limits
from flare_async.sim.loadtest.site import Links
from tests.sim.loadtest.test_load import command, load

SETTING = LoadSetting(clients=2, rounds=1, nbytes=4, address="tcp://127.0.0.1:0")

pytestmark = pytest.mark.timeout(60)


async def ended_without_a_link() -> HostFigures:
    """Cut one of two clients' links and close the server before there is another one."""
    figures, limits = HostFigures(2), load_limits(2)
    links = Links(Transports(limits, None))
    async with (
        open_context(LoopClock(), SystemRandom(), links.network, limits) as context,
        anyio.create_task_group() as group,
        listening(SETTING) as server,
    ):
        hosting = Hosting(address=server.address, first=1, count=2)
        group.start_soon(hosts.serve_all, hosting, context, links, figures)
        await server.play()
        links.cut("site-2")
    return figures


@pytest.mark.slow
@pytest.mark.timeout(20)
def test_a_client_without_a_link_at_the_end_is_lost_and_not_waited_for(monkeypatch):
    """It would dial a server that is gone for five minutes."""
    monkeypatch.setattr(hosts, "ENDING", 0.1)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(ended_without_a_link())
    assert (figures.lost, figures.clients) == (1, 2)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", ["1", "2", "7"])
def test_all_kinds_of_trouble_at_once_add_up_and_end(tmp_path, seed):
    """Every task is counted once: as good, late or failed."""
    trouble = ("--drop", "20%", "--slow", "30%", "--slow-time", "700ms", "--fail", "10%")
    found = load(tmp_path, *trouble, "--deadline", "400ms", "--quorum", "10%", "--seed", seed)
    assert found["tasks_ok"] + sum(found["failures"].values()) == 24
    assert set(found["failures"]) <= {"failed: training_failed", "late"}
    assert (found["clients_lost"], found["correct"]) == (0, True)
    assert found["links_cut"] > 0


def test_hellos_of_thousands_at_once_are_waited_for():
    """Who gave up after the usual five seconds would come again, and fence what was on its way."""
    assert load_limits(5000).handshake_timeout == 60
    assert load_limits(5000).handshakes >= 5000


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tls", "unix"])
def test_a_server_that_is_terminated_leaves_no_folder(tmp_path, transport):
    """Nor its private key: it cleans up as after Ctrl-C, and says so with its status."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ("--clients", "2", "--processes", "0", "--transport", transport)
    where = () if transport == "unix" else ("--listen", "tls://127.0.0.1:0")
    server = subprocess.Popen(
        command(*words, *where, "--workspace", str(tmp_path / "runs")),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    address = server.stderr.readline().split()[-1]
    there = [path.name[:3] for path in scratch.iterdir()]
    server.terminate()
    server.communicate(timeout=40)
    assert (address.partition(":")[0], there) == (transport, ["fa-"])
    assert (server.returncode, [*scratch.iterdir()]) == (143, [])
