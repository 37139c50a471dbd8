"""Pulls the updates of a round again, from the sites that keep them until it is committed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from flare_async.errors import LinkError, OfferGone, OfferNotFound, SourceLost
from flare_async.roles.round import Update
from flare_async.roles.server import Server
from flare_async.transfer.sink import TensorSink

__all__ = ["Repull"]

AGAIN: Final = "the round, pulled again,"


class Repull:
    """What ``RepulledMean.pull_again`` is given: ``await repull(site, names, sink)``."""

    def __init__(self, server: Server, updates: Iterable[Update]) -> None:
        self._server = server
        self._refs = {update.site: update.ref for update in updates}

    async def __call__(self, site: str, names: Collection[str], sink: TensorSink) -> None:
        """Pull these tensors of a site's update.

        Waits as ``Downloader.fetch`` does; cancelling leaves the offer as it is.

        Raises:
            SourceLost: the site is gone, or offers its update no more.
            FlareError: the pull failed.
        """
        session, ref = self._server.sites.get(site), self._refs.get(site)
        if session is None or ref is None:
            total = 0 if ref is None else ref.nbytes
            raise SourceLost(site, AGAIN, 0, total, "it is not connected, or has offered nothing")
        try:
            await self._server.context.downloader.fetch(session, ref, sink, only=names)
        except (OfferGone, OfferNotFound, LinkError) as exc:
            raise SourceLost(site, AGAIN, 0, ref.nbytes, str(exc)) from exc
