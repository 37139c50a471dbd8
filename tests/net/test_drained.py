"""Waiting until what was sent has left."""

from __future__ import annotations

import anyio
import pytest

from flare_async.testing.pair import connected
from flare_async.wire.session import OpenOptions
from tests.net.peers import sim_links


@pytest.mark.parametrize("urgent", [True, False])
def test_a_sender_goes_on_when_a_full_link_has_room_again(sim, urgent: bool) -> None:
    """No acknowledgement need come for it: whoever reads messages answers them."""
    sent: list[str] = []

    async def main() -> None:
        async with connected(sim_links()) as pair:
            mine, _ = await pair.open("t", OpenOptions(urgent=urgent))
            pair.near.hold()

            async def send() -> None:
                await mine.send(b"message")
                sent.append("message")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await anyio.sleep(1)
                assert (sent, mine.statistics().unsent) == ([], 7)
                pair.near.release()
                await anyio.sleep(1)
                assert (sent, mine.statistics().unsent) == (["message"], 0)

    sim(main)
