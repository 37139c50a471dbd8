"""Sites that run rounds with each other: under a grant, spliced by the server and by relays."""

from __future__ import annotations

import dataclasses

import anyio
import numpy as np
import pytest

from flare_async.errors import QuorumNotReached
from flare_async.limits import KIB, MIB, Limits
from flare_async.roles.granted import granted
from flare_async.roles.grants import Grants
from flare_async.roles.server import Server
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.windows import CreditBudget
from tests.roles.federation import SCHEMES, Trains, expected, federation
from tests.roles.peering import NAMES, met, peer_round, peers, peers_below, until, workers
from tests.roles.tree import ONE

ALL = ((1, 1), (2, 3), (4, 1))
BIG = TensorSet.from_params({"w": np.arange(2 * MIB, dtype=np.float32)})
DEEP = {"r1": "server", "r2": "r1", "r3": "server"}


def below(*parents):
    """Return the three workers below these parents."""
    return dict(zip(zip(parents, NAMES, strict=True), workers().values(), strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_site_runs_a_round_with_its_peers_and_itself(sim, scheme):
    """The mean is the one that the server would have made; the server offers nothing."""

    async def main():
        async with peers(scheme=scheme) as made:
            seen, mean = await peer_round(await met(made, "a"))
            return seen.status(), mean, dict(made.server.shelf._offers)

    status, mean, offers = sim(main)
    assert status == dict.fromkeys(NAMES, "ok")
    assert mean == expected(*ALL)
    assert offers == {}


@pytest.mark.parametrize(
    ("relays", "parents"), [(ONE, ("r1", "r1", "server")), (DEEP, ("r2", "r2", "r3"))]
)
@pytest.mark.parametrize("mode", ["splice", "cache", "reduce"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_relays_pass_on_what_sites_open_to_each_other(sim, relays, parents, mode, scheme):
    """Up, over and down again, at any depth."""

    async def main():
        async with peers_below(relays, below(*parents), mode=mode, scheme=scheme) as made:
            return (await peer_round(await met(made, "a")))[1]

    assert sim(main) == expected(*ALL)


def test_a_site_needs_nobody_to_reach_itself(sim):
    """Its own update is a reference; after the round it is none of its sites any more."""

    async def main():
        async with peers({"a": Trains(1)}, names=("a",), scheme="sim") as made:
            server = await met(made, "a", names=("a",))
            made.server.peers.grants = Grants()  # nothing is passed on from now on
            _, mean = await peer_round(server, names=("a",))
            await until(lambda: not server.sites)
            return mean

    assert sim(main) == expected((1, 1))


def test_sites_of_one_relay_need_nothing_above_it(sim):
    """Their model goes no further up than the relay that both are below."""

    async def main():
        async with peers_below(ONE, below("r1", "r1", "server"), mode="splice") as made:
            server = await met(made, "a")
            offer = made.clients["b"].shelf.put(BIG, readers=["a"])
            sink, made.relays["r1"]._upward.parent = MemorySink(), None
            await made.context.downloader.fetch(server.sites["b"], offer.ref, sink)
            return sink.tensors.model_digest()

    assert sim(main) == BIG.model_digest()


@pytest.mark.parametrize("quorum", [2, 3])
def test_a_peer_that_fails_is_left_out(sim, quorum):
    """The quorum decides what that means."""

    async def main():
        failing = workers(b=Trains(error=ValueError("no data here")))
        async with peers(failing, scheme="sim") as made:
            try:
                return await peer_round(await met(made, "a"), quorum=quorum)
            except QuorumNotReached as exc:
                return exc.failures["b"], None

    seen, mean = sim(main)
    if quorum == 3:
        assert (seen, mean) == ("ValueError: no data here", None)
        return
    assert seen.status() == {"a": "ok", "b": "failed", "c": "ok"}
    assert mean == expected((1, 1), (4, 1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_peer_under_a_newer_session_gets_its_task_again(sim, scheme):
    """It has the grant before that, and the other sites hear of its new way."""

    async def main():
        slow = workers(b=Trains(2, weight=3, seconds=5))
        async with peers(slow, scheme=scheme) as made:
            server = await met(made, "a")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(come_again, made, slow["b"])
                return await peer_round(server), len(slow["b"].tasks)

    (seen, mean), tasks = sim(main)
    assert (seen.status()["b"], mean) == ("ok", expected(*ALL))
    assert tasks == 2


async def come_again(made, worker):
    """Let a site join under a newer session while it works."""
    await worker.began.wait()
    made.context.tasks.start_soon(made.join, "b", worker)


class Peak(CreditBudget):
    """A budget that remembers how much of it was taken at most."""

    most = 0

    def take(self, wanted):
        """Take, and remember."""
        granted = super().take(wanted)
        self.most = max(self.most, self._taken)
        return granted


def test_the_server_passes_models_on_and_holds_windows_only(sim):
    """An offer of 8 MiB passes a server that is lent one: it is spliced, and stored nowhere."""
    limits = Limits(process_bytes=MIB, link_bytes=MIB, window_bytes=MIB // 4, frame_bytes=64 * KIB)

    async def main():
        async with federation({"a": Trains(), "b": Trains()}, scheme="sim", limits=limits) as made:
            server = Server(dataclasses.replace(made.context, budget=(peak := Peak(MIB))))
            async with server.listen("sim://other") as address:
                made.server, made.address = server, address
                for name in ("x", "y"):
                    made.context.tasks.start_soon(made.join, name, Trains())
                await server.wait_for(("x", "y"), 2)
                async with granted(server, "job", ("x", "y")):
                    sink, peers = MemorySink(), await met(made, "x", names=("x", "y"))
                    offer = made.clients["y"].shelf.put(BIG, readers=["x"])
                    await made.context.downloader.fetch(peers.sites["y"], offer.ref, sink)
                    return sink.tensors.model_digest(), peak.most, offer.served["x"]

    digest, most, served = sim(main)
    assert (digest, served) == (BIG.model_digest(), BIG.nbytes)
    assert most <= MIB
