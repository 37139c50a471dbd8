"""The versions of a model that somebody works on: each is offered, and held, once."""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.roles.server import Server
from flare_async.transfer.shelf import Offer
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet

__all__ = ["Versions"]


@dataclass(slots=True)
class _Live:
    offer: Offer
    holders: int = 0


class Versions:
    """Offers of the versions that are held by some task; the last one to let go ends an offer."""

    def __init__(self, server: Server, sites: tuple[str, ...]) -> None:
        self._server = server
        self._sites = sites
        self._live: dict[int, _Live] = {}
        self.most = 0

    @property
    def live(self) -> tuple[int, ...]:
        """The numbers of the versions that somebody holds, in order."""
        return tuple(sorted(self._live))

    def hold(self, version: int, model: TensorSet, site: str) -> Offer:
        """Return the offer of a version, which a task of ``site`` holds from now on."""
        found = self._live.get(version)
        if found is None:
            readers = self._server.readers(self._sites)
            offer = self._server.shelf.put(model, version=version, readers=readers)
            found = self._live[version] = _Live(offer)
            self.most = max(self.most, len(self._live))
        found.holders += 1
        found.offer.served.pop(site, None)  # what it read for a former task is recorded
        return found.offer

    def release(self, version: int) -> None:
        """Take note that a task holds a version no more."""
        found = self._live[version]
        found.holders -= 1
        if found.holders == 0:
            del self._live[version]
            self._server.shelf.withdraw(found.offer)
            # Who keeps a lease until its receipt keeps the offer, and must not keep the model.
            found.offer.source = MemorySource(TensorSet((), {}, {}))
