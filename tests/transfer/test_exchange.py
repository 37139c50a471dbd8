"""Tensors and files between two programs that have no roles: offered, reached, refused, lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import (
    ConnectFailed,
    OfferGone,
    OfferNotFound,
    ResourceLimit,
    TensorFormatError,
    WorkspaceError,
)
from flare_async.limits import MIB
from flare_async.net.clock import LoopClock
from flare_async.testing import Cut, SeededRandom, SimNetwork
from flare_async.transfer import ContentCache, reach_tensors, read_ref, ref_text, serve_tensors
from flare_async.transfer.files import file_chunks, read_file
from flare_async.transfer.pull import TensorRef
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import big, run, same, tied

ADDRESS = "tcp://127.0.0.1:0"
REFS = st.builds(
    TensorRef, st.text(), st.text(), st.integers(0, 2**63), st.binary(), st.integers(0, 2**63)
)


@given(REFS)
def test_a_reference_travels_as_text(ref):
    """Without spaces, and unchanged."""
    text = ref_text(ref)
    assert text.split() == [text]
    assert read_ref(text) == ref


@settings(max_examples=60)
@given(st.text() | st.binary().map(lambda data: data.hex()))
def test_a_text_that_is_no_reference_is_one_typed_error(text):
    """Whatever it is."""
    with pytest.raises(TensorFormatError, match="no reference"):
        read_ref(text)


def test_a_model_and_files_are_exchanged(tmp_path):
    """From memory, from a safetensors file and from any file; each into memory and into a file."""
    place = tmp_path / "model.safetensors"
    place.write_bytes(b"".join(map(bytes, file_chunks(tied()))))
    (tmp_path / "notes").write_text("weights of a model", "utf-8")

    async def main():
        async with serve_tensors(ADDRESS) as server:
            refs = [
                server.add_tensors(tied()),
                await server.add_file(place),
                await server.add_file(tmp_path / "notes", plain_as="notes"),
            ]
            async with reach_tensors(server.address) as reader:
                found = [await reader.download_tensors(ref) for ref in refs]
                await reader.download_file(refs[0], tmp_path / "copy")
                await reader.download_file(refs[2], tmp_path / "other notes", plain=True)
            return found, dict(server.served(refs[0]))

    (model, from_file, notes), served = run(main)
    assert same(model, tied())
    assert same(from_file, tied())
    assert bytes(notes["notes"]) == b"weights of a model"
    assert (tmp_path / "copy").read_bytes() == place.read_bytes()
    assert (tmp_path / "other notes").read_text("utf-8") == "weights of a model"
    assert served == {"reader": 2 * 2456}


def test_an_offer_ends_when_it_is_removed(tmp_path):
    """Its reader is told; a file that was offered is closed; others go on."""
    (tmp_path / "notes").write_bytes(b"notes")

    async def main():
        async with serve_tensors(ADDRESS) as server:
            notes = await server.add_file(tmp_path / "notes", plain_as="notes")
            model = server.add_tensors({"w": np.ones(3)}, readers=["reader"])
            async with (
                reach_tensors(server.address) as reader,
                reach_tensors(server.address, name="stranger") as stranger,
            ):
                server.remove(notes)
                server.remove(notes)
                with pytest.raises(OfferGone):
                    await reader.download_tensors(notes)
                with pytest.raises(OfferNotFound):
                    await stranger.download_tensors(model)
                with pytest.raises(ResourceLimit):
                    await reader.download_tensors(model, memory_bytes=23)
                with pytest.raises(ResourceLimit):
                    await reader.download_file(model, tmp_path / "x", max_bytes=23)
                known = ContentCache()
                await reader.download_tensors(model, known=known)
                await reader.download_tensors(model, known=known)
            assert server.served(notes) == {}
            return server.served(model)

    assert run(main) == {"reader": 24}


@pytest.mark.parametrize("every", [300_000, 1_100_000])
def test_a_download_goes_on_over_new_links(sim, tmp_path, every):
    """A link breaks in the middle of frames, again and again; each byte is asked for once."""

    async def main():
        faults = [Cut(after_bytes=every, every=every, direction="down")]
        network = SimNetwork(LoopClock(), SeededRandom(1), faults=faults)
        async with serve_tensors("sim://there", network=network) as server:
            ref = server.add_tensors(big(4))
            async with reach_tensors(server.address, network=network.of("site")) as reader:
                await reader.download_file(ref, tmp_path / "model")
                found = await reader.download_tensors(ref)
            return same(found, big(4)), server.served(ref)

    assert sim(main) == (True, {"reader": 8 * MIB})
    assert same(read_file(tmp_path / "model"), big(4))


def test_what_cannot_be_offered_is_named(tmp_path):
    """A value that is no tensor, and a file that is not there."""

    async def main():
        async with serve_tensors(ADDRESS) as server:
            with pytest.raises(TensorFormatError, match="'w'"):
                server.add_tensors({"w": "text"})
            with pytest.raises(WorkspaceError, match="absent"):
                await server.add_file(tmp_path / "absent")
            return server.address

    address = run(main)
    with pytest.raises(ConnectFailed):
        run(lambda: reach(address))


async def reach(address):
    """Connect and leave."""
    async with reach_tensors(address):
        pass


def test_a_server_answers_pulls_and_nothing_else():
    """Another topic is refused, and the session goes on."""

    async def main():
        async with serve_tensors(ADDRESS) as server, reach_tensors(server.address) as reader:
            channel = reader._session.open("task", b"", OpenOptions(end=True))
            with pytest.raises(Exception, match="tensors are pulled, and nothing else"):
                await channel.receive()
            return len(await reader.download_tensors(server.add_tensors({"w": np.ones(3)})))

    assert run(main) == 1


def test_an_error_in_the_block_is_the_error_outside():
    """No group of exceptions comes out."""

    async def main():
        async with serve_tensors(ADDRESS) as server, reach_tensors(server.address):
            json.loads("no JSON")

    with pytest.raises(json.JSONDecodeError):
        run(main)
