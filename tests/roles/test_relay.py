"""Relays pass tasks, models, results and receipts on, at any depth, and keep nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ChannelReset, ConfigError, Dismissed, LinkError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.roles.messages import TASK_TOPIC
from flare_async.roles.relay import Relay
from flare_async.roles.route_messages import ROUTE_SCHEMA, ROUTES_TOPIC, Joined, Left
from flare_async.roles.server import Server
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.roles.federation import SCHEMES, Trains, federation, settle, values
from tests.roles.tree import ONE, joined, tree

both = pytest.mark.parametrize("scheme", SCHEMES)
DEEP = {"r1": "server", "r2": "r1", "r3": "r2"}


@both
@pytest.mark.parametrize("relays", [ONE, DEEP], ids=["one", "deep"])
def test_a_round_through_relays_gives_the_flat_bits(sim, scheme, relays):
    """The same sites with the same weights, directly below the server and behind relays."""
    last = list(relays)[-1]

    def workers():
        return {"a": Trains(1, weight=3), "b": Trains(2.5), "c": Trains(0.1, weight=7)}

    async def flat():
        async with federation(workers(), scheme=scheme) as made:
            return values((await made.play())[1])

    async def relayed():
        placed = {(last, name): worker for name, worker in workers().items()}
        async with tree(relays, placed, scheme=scheme) as made:
            _, model = await made.play()
            await settle()
            return values(model), made.seen.status(), made.server.sites["a"].relays

    model, status, way = sim(relayed)
    assert model == sim(flat)
    assert status == dict.fromkeys("abc", "ok")
    assert list(way) == list(reversed(relays))


@both
def test_nothing_is_left_of_a_round_that_is_over(sim, scheme):
    """Every channel ends in order, at all levels: only the relay's routes stay open."""

    async def main():
        async with tree(DEEP, {("r3", "a"): Trains(1)}, scheme=scheme) as made:
            for number in range(3):
                await made.play(number)
            await settle()
            sessions = [made.server.directory.relays["r1"], made.relays["r3"].sites["a"]]
            shelves = [len(made.clients["a"].shelf._offers), len(made.server.shelf._offers)]
            return [[c.topic for c in one.channels.values()] for one in sessions], shelves

    assert sim(main) == ([["routes"], []], [0, 0])


@pytest.mark.parametrize("addressee", ["b", "r1", "nobody", "server"])
def test_b41_a_site_addresses_nobody_but_its_parent(sim, addressee):
    """Neither another site, nor a relay, nor the server may be reached through a relay."""

    async def refused():
        workers = {("r1", "a"): Trains(), ("r1", "b"): Trains()}
        async with tree(ONE, workers) as made, joined(made, "c", made.at("r1")) as session:
            options = OpenOptions(urgent=True, destination=addressee, hops=8)
            with pytest.raises(ChannelReset) as caught:
                await session.open(TASK_TOPIC, b"", options).receive()
            return caught.value.reset_code

    assert sim(refused) == ResetCode.REFUSED


@pytest.mark.parametrize(("hops", "code"), [(0, "REFUSED"), (2, "REFUSED"), (3, "PROTOCOL")])
def test_b41_a_channel_without_a_hop_left_is_refused(sim, hops, code):
    """Three relays need three hops; then the site itself refuses an empty offer."""

    async def main():
        async with tree(DEEP, {("r3", "a"): Trains()}) as made:
            options = OpenOptions(urgent=True, destination="a", hops=hops)
            channel = made.server.directory.relays["r1"].open(TASK_TOPIC, b"", options)
            with pytest.raises(ChannelReset) as caught:
                await channel.receive()
            return caught.value.reset_code

    assert sim(main) == ResetCode[code]


FORGED = {
    "for another relay": Joined("x", ("r9",)),
    "for nobody": Joined("x", ()),
    "a loop through itself": Joined("x", ("evil", "server", "evil")),
    "a loop through the server": Joined("x", ("server", "evil")),
    "too long a way": Joined("x", (*(f"r{number}" for number in range(8)), "evil")),
    "no name": Joined("../x", ("evil",)),
}


@pytest.mark.parametrize("message", FORGED.values(), ids=FORGED)
def test_b41_a_forged_route_ends_the_relays_session(sim, message):
    """A relay speaks for itself only; the server says why it ends."""

    async def main():
        async with tree({}, {("server", "a"): Trains()}) as made:
            async with joined(made, "evil", made.address, "relay") as session:
                channel = session.open(ROUTES_TOPIC, b"", OpenOptions(urgent=True))
                Messages(channel, ROUTE_SCHEMA).post(message)
                with pytest.raises(Dismissed, match="bad_route"):
                    await anext(session)
            await settle()
            return list(made.server.sites), list(made.server.directory.relays)

    assert sim(main) == (["a"], [])


def test_b41_a_site_announces_no_routes(sim):
    """Only who came as a relay is believed."""

    async def main():
        async with tree({}, {}) as made, joined(made, "b", made.address) as session:
            channel = session.open(ROUTES_TOPIC, b"", OpenOptions(urgent=True))
            with pytest.raises(ChannelReset) as caught:
                await channel.receive()
            return caught.value.reset_code

    assert sim(main) == ResetCode.REFUSED


def test_only_relays_that_are_named_may_come_as_such(sim):
    """A site that says it is a relay is refused, and announces nobody."""

    async def main():
        async with tree({}, {}) as made:
            server = Server(made.context, relays=("r1", "r2"))
            async with server.listen("sim://other") as address:
                with pytest.raises(LinkError, match="not one of the relays"):
                    async with joined(made, "site-1", address, "relay") as session:
                        await anext(session)
                async with joined(made, "r1", address, "relay"):
                    return list(server.directory.relays)

    assert sim(main) == ["r1"]


@pytest.mark.parametrize(
    "options", [{"mode": "copy"}, {"process_bytes": 1000}, {"cache_bytes": 0}], ids=str
)
def test_a_relay_that_cannot_be_is_refused(sim, options):
    """The error names the argument."""

    async def main():
        async with tree({}, {}) as made:
            with pytest.raises(ConfigError) as caught:
                Relay(made.context, "r1", **options)
            return caught.value.field

    assert sim(main) == next(iter(options))


@given(st.binary(max_size=80))
def test_garbage_for_a_route_is_a_protocol_error(data):
    """A relay's messages are of a closed schema."""
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(ROUTE_SCHEMA.decode(data, Limits()), Joined | Left)


@given(st.text(max_size=20), st.lists(st.text(max_size=9), max_size=9))
def test_routes_survive_their_way(site, relays):
    """What is announced is what arrives."""
    for message in (Joined(site, tuple(relays)), Left(site)):
        assert ROUTE_SCHEMA.decode(ROUTE_SCHEMA.encode(message), Limits()) == message
