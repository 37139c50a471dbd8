"""Offers and pulls: by reference in memory, intact over sockets, resumed, refused, and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import (
    AckStalled,
    ChannelReset,
    DigestMismatch,
    FlareError,
    LinkLost,
    OfferGone,
    OfferNotFound,
    RemoteProtocolError,
    TensorFormatError,
    TransferError,
)
from flare_async.limits import MIB, Limits
from flare_async.transfer.arrivals import SinkState
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest, TensorRef, parse_layout
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.net.peers import cancelled_at
from tests.transfer.pulling import (
    PATIENCE,
    READER,
    STALLING,
    ChunkedSource,
    big,
    every_dtype,
    many,
    pulling,
    real_links,
    refused,
    run,
    same,
    sim_links,
    tied,
)

SCHEMES = ("memory", "tcp")


def fetched(scheme, offered):
    """Offer and pull over a real transport; return what came and the bytes asked for."""

    async def main():
        async with pulling(real_links(scheme)) as world, world.shelf.offer(offered) as offer:
            return await world.fetch(offer.ref), offer.served[READER]

    return run(main)


def test_over_memory_the_offered_arrays_are_adopted():
    """Nothing is copied: what arrives is the owner's memory, read-only."""
    array = np.arange(1000, dtype=np.float32)
    got, served = fetched("memory", TensorSet.from_params({"w": array}))
    assert np.shares_memory(got.numpy()["w"], array)
    assert not got.numpy()["w"].flags.writeable
    assert served == array.nbytes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_dtype_arrives_intact(scheme):
    """Names, types, shapes and bytes, for each element type."""
    offered = every_dtype()
    got, served = fetched(scheme, offered)
    assert same(got, offered)
    assert served == offered.nbytes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tied_tensors_are_pulled_once(scheme):
    """They stay tied, and their bytes are asked for once."""
    offered = tied()
    got, served = fetched(scheme, offered)
    assert same(got, offered)
    assert got.aliases == {"out": "in"}
    assert served == offered.nbytes == 600 * 4 + 7 * 8


@pytest.mark.parametrize("scheme", SCHEMES)
def test_many_tensors_and_empty_ones_arrive(scheme):
    """Two hundred tensors, every tenth without a byte."""
    offered = many(200)
    got, served = fetched(scheme, offered)
    assert same(got, offered)
    assert served == offered.nbytes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tensor_longer_than_all_windows_arrives(scheme):
    """Its digest is computed beside the loop, once, and is kept for the next reader."""

    async def main():
        async with pulling(real_links(scheme)) as world:
            offered = big(9)
            async with world.shelf.offer(offered) as offer:
                first, second = [await world.fetch(offer.ref) for _ in range(2)]
                assert same(first, offered)
                assert same(second, offered)
                return offer.served[READER], len(offer.digests)

    assert run(main) == (18 * MIB, 0 if scheme == "memory" else 1)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("chunk", [1000, 2**20])
def test_a_source_that_is_read_in_pieces_arrives(scheme, chunk):
    """What is offered need not be memory; the reader cannot tell."""
    offered = TensorSet.from_params({"w": np.arange(50_000), "empty": np.ones(0), "b": np.ones(3)})
    got, served = fetched(scheme, ChunkedSource(offered, chunk=chunk))
    assert same(got, offered)
    assert served == offered.nbytes


def test_a_manifest_is_pulled_once():
    """The next pull of the same layout asks for tensors only."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            offered = many(20)
            counts = []
            for _ in range(2):
                async with world.shelf.offer(offered) as offer:
                    before = len(world.pair.near.passed)
                    await world.fetch(offer.ref)
                    opens = [frame.kind.__name__ for frame in world.pair.near.passed[before:]]
                    counts.append(opens.count("Open"))
            return counts

    assert run(main) == [21, 20]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_offer_that_has_ended_is_gone(scheme):
    """A reference outlives its block only as a tombstone; the sink is discarded."""

    async def main():
        async with pulling(real_links(scheme)) as world:
            async with world.shelf.offer(many(3)) as offer:
                pass
            return await refused(world, offer.ref, OfferGone)

    assert run(main) is SinkState.DISCARDED


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_that_was_guessed_is_not_found(scheme):
    """Nothing tells a wrong key from one that is for others."""

    async def main():
        async with (
            pulling(real_links(scheme)) as world,
            world.shelf.offer(many(3), readers=["somebody else"]) as offer,
        ):
            await refused(world, offer.ref, OfferNotFound)
            return await refused(world, replace(offer.ref, key="0" * 32), OfferNotFound)

    assert run(main) is SinkState.DISCARDED


def test_a_tombstone_lasts_a_minute(sim):
    """After that an ended offer is as unknown as any."""

    async def main():
        async with pulling(sim_links()) as world:
            async with world.shelf.offer(many(3)) as offer:
                pass
            await asyncio.sleep(61)
            async with world.shelf.offer(many(3)):
                pass
            return await refused(world, offer.ref, OfferNotFound)

    assert sim(main) is SinkState.DISCARDED


def test_an_offer_that_ends_while_it_is_pulled_is_gone(sim):
    """The readers under way are reset with the reason, and nothing of theirs is left."""

    async def main():
        async with pulling(sim_links(bandwidth=1e6)) as world, anyio.create_task_group() as group:
            states = []
            async with world.shelf.offer(big(4)) as offer:

                async def read():
                    states.append(await refused(world, offer.ref, OfferGone))

                group.start_soon(read)
                await asyncio.sleep(2)
        return states, len(offer.channels)

    assert sim(main) == ([SinkState.DISCARDED], 0)


BAD_REQUESTS = {
    "beyond the end": (PullRequest("", "layer 1", 0, 5), ResetCode.NOT_FOUND),
    "backwards": (PullRequest("", "layer 1", 3, 2), ResetCode.NOT_FOUND),
    "negative": (PullRequest("", "layer 1", -1, 2), ResetCode.NOT_FOUND),
    "no such tensor": (PullRequest("", "layer x", 0, 0), ResetCode.NOT_FOUND),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_request_that_does_not_fit_is_refused(case):
    """It is reset with a code, and the session goes on."""
    request, code = BAD_REQUESTS[case]

    async def main():
        async with pulling(real_links("memory")) as world, world.shelf.offer(many(3)) as offer:
            header = PULL_SCHEMA.encode(replace(request, key=offer.ref.key))
            channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
            with pytest.raises(ChannelReset) as caught:
                await channel.receive()
            await world.pair.round_trip()
            return caught.value.reset_code, sum(offer.served.values())

    assert run(main) == (code, 0)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=100))
def test_a_request_of_garbage_is_refused(header):
    """No header harms the owner."""

    async def main():
        async with pulling(real_links("memory")) as world:
            channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
            with pytest.raises(ChannelReset) as caught:
                await channel.receive()
            return caught.value.reset_code, world.pair.there.ended

    code, ended = run(main)
    assert code in {ResetCode.PROTOCOL, ResetCode.NOT_FOUND}
    assert not ended


def answering(session, answers):
    """Answer pulls with (payload, trailer) by tensor name; return the requests that came."""
    asked = []

    def answer(channel):
        request = PULL_SCHEMA.decode(channel.header, Limits())
        asked.append(request)
        payload, trailer = answers(request)
        if payload:
            channel.send_soon(payload)
        channel.end(trailer)

    session.serve(PULL_TOPIC, answer)
    return asked


def reference(manifest, nbytes):
    """Return a reference to a manifest that somebody made up."""
    return TensorRef("liar", "0" * 32, 0, tensor_digest(manifest), nbytes)


def test_a_source_that_lies_is_asked_again_and_then_given_up(sim):
    """A digest that never fits is DigestMismatch after ``max_resends`` further pulls."""

    async def main():
        async with pulling(sim_links(), Limits(max_resends=2)) as world:
            offer = world.shelf.put(TensorSet.from_params({"w": np.ones(1, np.int32)}))
            layout, data = offer.layout, b"\x01\x00\x00\x00"

            def answers(request):
                return (layout, b"") if not request.tensor else (data, tensor_digest(b"other"))

            asked = answering(world.pair.there, answers)
            sink = MemorySink()
            with pytest.raises(DigestMismatch) as caught:
                await world.fetch(offer.ref, sink)
            pulls = [request for request in asked if request.stop]
            return len(pulls), caught.value.tensor, caught.value.nbytes, sink._arrivals.state

    assert sim(main) == (3, "w", 4, SinkState.DISCARDED)


def test_a_source_that_lies_once_is_forgiven(sim):
    """What was damaged on the way is pulled again from the start, and verified."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = TensorSet.from_params({"w": np.arange(1000)})
            offer, view = world.shelf.put(offered), offered["w"]
            bad = bytes(view[:-1]) + b"\xff"

            def answers(request):
                if not request.tensor:
                    return offer.layout, b""
                return (view if len(asked) > 2 else bad), tensor_digest(view)

            asked = answering(world.pair.there, answers)
            got = await world.fetch(offer.ref)
            return same(got, offered), [(request.start, request.stop) for request in asked[1:]]

    assert sim(main) == (True, [(0, 8000), (0, 8000)])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sent", [0, 3999, 4001, 9000])
def test_a_tensor_of_another_length_is_refused(scheme, sent):
    """Too few or too many bytes are typed errors, and no memory beyond the tensor is touched."""

    async def main():
        async with pulling(real_links(scheme)) as world:
            offer = world.shelf.put(TensorSet.from_params({"w": np.zeros(1000, np.float32)}))
            data = bytes(sent)
            answering(
                world.pair.there,
                lambda request: (data, b"") if request.tensor else (offer.layout, b""),
            )
            sink = MemorySink()
            with pytest.raises(FlareError) as caught:
                await world.fetch(offer.ref, sink)
            return isinstance(caught.value, RemoteProtocolError | TransferError)

    assert run(main)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_a_manifest_of_garbage_is_one_typed_error(data):
    """Whatever the bytes are, whoever signed them."""
    with pytest.raises(TensorFormatError):
        parse_layout(data)


@pytest.mark.parametrize("manifest", [b"", b"\x00" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00[]"])
def test_a_manifest_that_is_none_fails_the_pull(manifest):
    """The digest fits, the content does not: the sink is discarded before anything was pulled."""

    async def main():
        async with pulling(real_links("memory")) as world:
            asked = answering(world.pair.there, lambda _: (manifest, b""))
            state = await refused(world, reference(manifest, 0), TensorFormatError)
            return state, len(asked)

    assert run(main) == (SinkState.DISCARDED, 1)


def test_a_manifest_that_another_digest_names_is_refused():
    """A peer cannot put its own layout in the place of the one that was referred to."""

    async def main():
        async with pulling(real_links("memory")) as world:
            offer = world.shelf.put(many(3))
            ref = replace(offer.ref, layout=bytes(32))
            return await refused(world, ref, TensorFormatError)

    assert run(main) is SinkState.DISCARDED


def test_a_reference_that_names_other_bytes_is_refused():
    """What a manifest adds up to must be what was announced."""

    async def main():
        async with pulling(real_links("memory")) as world:
            offer = world.shelf.put(many(3))
            return await refused(world, replace(offer.ref, nbytes=1), TransferError)

    assert run(main) is SinkState.DISCARDED


def test_an_owner_that_never_answers_is_a_stall(sim):
    """The manifest is waited for no longer than ``stall_timeout``."""

    async def main():
        async with pulling(sim_links(), STALLING) as world:
            world.pair.there.serve(PULL_TOPIC, lambda channel: None)
            await refused(world, reference(b"x", 1), AckStalled)
            return asyncio.get_running_loop().time()

    assert PATIENCE <= sim(main) <= PATIENCE + 1


def test_a_stalled_pull_goes_on_from_where_it_stood(sim):
    """A link that stands still is asked again for what is missing, and for no more."""

    async def main():
        async with pulling(sim_links(bandwidth=1e6), STALLING) as world:
            offered = big(4)
            async with world.shelf.offer(offered) as offer:
                loop, far = asyncio.get_running_loop(), world.pair.far
                loop.call_later(2, far.hold)
                loop.call_later(2 + 1.5 * PATIENCE, far.release)
                got = await world.fetch(offer.ref)
                return same(got, offered), offer.served[READER] / MIB

    intact, served = sim(main)
    assert intact
    assert 4 < served < 7, "it began anew"


def test_a_pull_that_the_owner_gave_up_goes_on_too(sim):
    """Whoever notices a stall first, the reader resumes."""

    async def main():
        patient = replace(STALLING, stall_timeout=10 * PATIENCE)
        async with pulling(sim_links(), patient, STALLING) as world:
            offered = big(4)
            async with world.shelf.offer(offered) as offer:
                loop, near = asyncio.get_running_loop(), world.pair.near
                await world.downloader.layout(world.pair.here, offer.ref)
                loop.call_later(0.03, near.hold)
                loop.call_later(1.5 * PATIENCE, near.release)
                got = await world.fetch(offer.ref)
                return same(got, offered), offer.served[READER] / MIB, loop.time() < 5 * PATIENCE

    intact, served, soon = sim(main)
    assert (intact, soon) == (True, True)
    assert 4 < served < 8, "it was not given up, or it began anew"


def test_a_pull_without_progress_is_given_up(sim):
    """After ``max_resends`` further tries without a byte the reader gets AckStalled, in bounds."""

    async def main():
        async with pulling(sim_links(), STALLING) as world, world.shelf.offer(big(1)) as offer:
            await world.downloader.layout(world.pair.here, offer.ref)
            world.pair.there.serve(PULL_TOPIC, lambda channel: asked.append(channel.header))
            asked = []
            await refused(world, offer.ref, AckStalled)
            tries = [PULL_SCHEMA.decode(header, Limits()).tensor for header in asked]
            return tries.count("big"), asyncio.get_running_loop().time()

    tries, seconds = sim(main)
    assert tries == 1 + STALLING.max_resends
    assert seconds <= tries * (PATIENCE + 0.25) + 1 + 3.5


def test_a_slow_reader_does_not_slow_another(sim):
    """When the fast one is done, the slow one has a tenth, and it gets the rest as well."""

    async def main():
        offered, done = big(2), {}
        async with pulling(sim_links(bandwidth=5e4)) as slow, pulling(sim_links()) as fast:
            fast.shelf.attach(slow.pair.there)
            async with fast.shelf.offer(offered) as offer, anyio.create_task_group() as group:

                async def read(name, world):
                    got = await world.fetch(offer.ref)
                    landed = sum(f.nbytes for f in slow.pair.near.passed if not f.sent)
                    done[name] = same(got, offered), landed / offered.nbytes

                group.start_soon(read, "slow", slow)
                await asyncio.sleep(2)
                group.start_soon(read, "fast", fast)
            return done

    done = sim(main)
    assert done["fast"][0]
    assert done["fast"][1] < 0.2
    assert done["slow"][0]


def test_a_source_that_fails_resets_its_reader_only(sim):
    """A file that cannot be read is its readers' trouble; the owner serves the next one."""

    async def main():
        async with pulling(sim_links(), STALLING) as world:
            source = ChunkedSource(many(5), chunk=4, error=TransferError("the disk is gone"))
            async with world.shelf.offer(source) as broken, world.shelf.offer(many(5)) as offer:
                await refused(world, broken.ref, FlareError)
                return same(await world.fetch(offer.ref), many(5))

    assert sim(main)


def test_a_reader_that_sends_garbage_harms_no_task_of_the_owner(sim):
    """The session ends with a typed error; whoever feeds its pull ends quietly."""

    async def main():
        async with pulling(sim_links(bandwidth=1e5), STALLING) as world:
            async with world.shelf.offer(ChunkedSource(big(1), chunk=5000)) as offer:
                write = world.pair.near.link._pipe.write
                asyncio.get_running_loop().call_later(3, write, [b"garbage" * 100])
                with pytest.raises((FlareError, LinkLost)):
                    await world.fetch(offer.ref)
            return type(world.pair.there.error)

    assert sim(main) is RemoteProtocolError


@pytest.mark.parametrize("late", [False, True])
def test_a_fetch_can_be_cancelled_anywhere(sim, late):
    """Its pulls are reset on both sides, its sink is discarded, and nothing is watched."""

    async def main(turn):
        async with pulling(sim_links(), STALLING) as world, world.shelf.offer(many(40)) as offer:
            sink = MemorySink()
            fetch = world.downloader.fetch(world.pair.here, offer.ref, sink)
            cancelled = await cancelled_at(fetch, turn, late=late)
            await world.pair.round_trip()
            await asyncio.sleep(1)
            discarded = sink._arrivals.state is SinkState.DISCARDED
            return cancelled, discarded, world.pulls(), world.pair.watchdog.parked

    for turn in range(60):
        cancelled, discarded, left, parked = sim(lambda turn=turn: main(turn))
        assert (discarded, left, parked) == (cancelled, [], 0)
        if not cancelled:
            break
    assert turn > 3


def test_a_link_that_is_lost_fails_the_fetch(sim):
    """The reader gets LinkLost at once, and its sink is discarded."""

    async def main():
        async with pulling(sim_links(bandwidth=1e5)) as world, world.shelf.offer(big(1)) as offer:
            sink = MemorySink()
            asyncio.get_running_loop().call_later(3, world.pair.near.link.cut)
            with pytest.raises(LinkLost):
                await world.fetch(offer.ref, sink)
            return sink._arrivals.state, world.pulls()

    assert sim(main) == (SinkState.DISCARDED, [])


def test_a_large_offer_is_served_in_simulation(sim):
    """Digests that are computed beside the loop need no thread there."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = big(3)
            async with world.shelf.offer(offered) as offer:
                return same(await world.fetch(offer.ref), offered)

    assert sim(main)
