"""The grants that a relay has from its parent, and passes on to the relays below it."""

from __future__ import annotations

import anyio

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory
from flare_async.roles.grants import Granter, Grants
from flare_async.roles.peer_messages import GRANT_SCHEMA, Grant
from flare_async.wire.frames import ResetCode

__all__ = ["RelayGrants"]


class RelayGrants:
    """Holds each grant as long as the parent's channel with it is open."""

    def __init__(self, context: Context, directory: Directory, grants: Grants) -> None:
        self._context = context
        self._directory = directory
        self._grants = grants

    def serve(self, channel: Channel) -> None:
        """Take a grant, so that what comes behind it on the same link finds it here."""
        try:
            grant = GRANT_SCHEMA.decode(channel.header, self._context.limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        self._grants.add(grant)
        granter = Granter(self._directory, grant, to_sites=False)
        granter.tell()
        start_soon(self._context.tasks, self._keep, channel, grant, granter, name="keep a grant")

    async def _keep(self, channel: Channel, grant: Grant, granter: Granter) -> None:
        """Pass the grant on to relays that come later; waits for its end, by a reset."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(granter.run)
                try:
                    while True:
                        await channel.receive()
                except (FlareError, anyio.EndOfStream):
                    tasks.cancel_scope.cancel()
        finally:
            self._grants.remove(grant)
            granter.end()
