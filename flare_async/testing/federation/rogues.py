"""Sites that speak the protocol and do not keep to it: what no client of ours would do."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from flare_async.errors import FlareError
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC, Scalar, TaskResult
from flare_async.roles.stream import TaskStream
from flare_async.transfer.pull import TensorRef
from flare_async.wire.session import Side

__all__ = ["Rogue", "serve_as"]

Rogue: TypeAlias = Literal["mute", "floods"]
FLOOD: Final = 3  # windows of bytes that nobody has given credit for


async def serve_as(kind: Rogue, context: Context, name: str, address: str) -> None:
    """Be a site that offers an update and never gives it; ``floods`` also sends without credit.

    Serves until its session ends, which is when the server has had enough.

    Raises:
        LinkError: it could not connect, or its session was ended.
    """
    link = await context.network.connect(address)
    session = Session(link, Side.CONNECTOR, context.endpoint(name, "client"))
    async with session:
        async for channel in session:
            if channel.topic == TASK_TOPIC:
                answer(kind, context, name, channel)


def answer(kind: Rogue, context: Context, name: str, channel: Channel) -> None:
    """Say that the task is done; pulls of what is offered are never answered."""
    model = OFFER_SCHEMA.decode(channel.header, context.limits).model
    ref = TensorRef(name, "nothing", 0, model.layout, model.nbytes)
    meta: dict[str, Scalar] = {"weight": 1.0, "origin": name}
    try:
        TaskStream(channel).post(TaskResult(ref, "FULL", {}, meta, 0.1))
        if kind == "floods":
            table = channel.session.machine._table
            table.channels[channel.id].outgoing.limit = 1 << 40
            channel.send_soon(bytes(FLOOD * context.limits.window_bytes))
    except FlareError:
        return  # the task was taken back meanwhile
