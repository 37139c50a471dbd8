"""A relay that adds its sites' updates, so that its parent gets one for all of them."""

from __future__ import annotations

import structlog

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.groups import single_error
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory
from flare_async.roles.partial_messages import PARTIAL_SCHEMA, PARTIAL_TASK_SCHEMA
from flare_async.roles.relay_below import SumSetting
from flare_async.roles.relay_sum import RelaySum
from flare_async.wire.frames import ResetCode

__all__ = ["Reducing"]

log = structlog.get_logger()


class Reducing:
    """Serves the sums that a parent asks for, one for each channel."""

    def __init__(self, context: Context, directory: Directory, name: str) -> None:
        self._setting = SumSetting(context, directory, context.shelf(name))

    def attach(self, parent: Session) -> None:
        """Answer a new parent's pulls of sums."""
        self._setting.shelf.attach(parent)

    def serve(self, channel: Channel) -> None:
        """Serve one sum in the background."""
        start_soon(self._setting.context.tasks, self._serve, channel, name="a sum")

    async def _serve(self, channel: Channel) -> None:
        limits = self._setting.context.limits
        try:
            task = PARTIAL_TASK_SCHEMA.decode(channel.header, limits)
            with single_error():
                await RelaySum(self._setting, Messages(channel, PARTIAL_SCHEMA), task).run()
            if channel.is_open:
                channel.end()
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
        except FlareError as exc:
            if channel.is_open:
                log.warning("sum_given_up", parent=channel.peer, code=exc.code, error=str(exc))
            channel.reset(ResetCode.INTERNAL, exc.code)
        except BaseException:
            channel.reset(ResetCode.CANCELLED, "the relay stops")
            raise
