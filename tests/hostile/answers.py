"""A site by hand whose layout is right, and whose tensor is what it likes."""

from __future__ import annotations

import contextlib

from flare_async.errors import FlareError
from flare_async.transfer.pull import PULL_SCHEMA, DigestRequest
from tests.roles.federation import MODEL
from tests.roles.rogue import Rogue, spec, until_the_end

__all__ = ["GOOD", "Answers"]

GOOD = bytes(MODEL["w"])


class Answers(Rogue):
    """A site whose layout is right; its tensor is answered with pieces, then a trailer or reset."""

    def __init__(self, pieces, trailer, reset=None):
        super().__init__(self.posts, [spec(2, 3)])
        self.pieces, self.trailer, self.reset = pieces, trailer, reset

    async def posts(self, stream):
        """Answer the task."""
        stream.tell(self.result())
        await until_the_end(stream)

    def _accept(self, made, channel, tasks):
        if channel.topic == "task":
            super()._accept(made, channel, tasks)
            return
        request = PULL_SCHEMA.decode(channel.header, made.context.limits)
        if not isinstance(request, DigestRequest) and not request.tensor:
            channel.send_soon(self.printed.data)
            channel.end()
            return
        self.pulls.append(request)
        with contextlib.suppress(FlareError):
            for piece in self.pieces:
                channel.send_soon(piece)
            if self.reset is None:
                channel.end(self.trailer)
            else:
                channel.reset(self.reset, "so there")
