"""Models that a site keeps for its peers: held by name, offered to those of its job alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flare_async.errors import FlareError, LinkLost, SourceLost
from flare_async.roles.like_model import LikeModel
from flare_async.roles.peer_server import PeerServer
from flare_async.transfer.admission import Admission
from flare_async.transfer.exchange import ref_text
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.shelf import Offer, Shelf
from flare_async.transfer.tensors import TensorSet

__all__ = ["HeldModels"]


@dataclass(frozen=True, slots=True)
class _Held:
    tensors: TensorSet
    offer: Offer
    shelf: Shelf


class HeldModels:
    """Versions of a job's model at one site. ``initial`` is version 0, which every site has.

    The server cannot pull them: it knows where they are and is no reader.
    """

    def __init__(self, site: str, initial: TensorSet) -> None:
        self._site = site
        self._initial = initial
        self._held: dict[int, _Held] = {}

    @property
    def versions(self) -> list[int]:
        """What is held here."""
        return sorted(self._held)

    async def find(self, peers: PeerServer, version: int, refs: Sequence[TensorRef]) -> TensorSet:
        """Return a version: held here under one of ``refs``, or pulled from the first to give it.

        Waits as ``Downloader.fetch`` does, a holder at a time; cancelling keeps nothing.

        Raises:
            SourceLost: nobody gives it.
        """
        held = self._held.get(version)
        if held is not None and any(ref.key == held.offer.ref.key for ref in refs):
            return held.tensors  # and no other model that had this number before a round's repeat
        if version == 0:
            return self._initial
        reasons: list[str] = []
        for ref in refs:
            try:
                return await self._pulled(peers, ref)
            except FlareError as exc:
                reasons.append(f"{ref.owner}: {exc}")
        problem = "; ".join(reasons) or "nobody holds it"
        raise SourceLost(self._site, f"version {version}", 0, self._initial.nbytes, problem)

    def hold(self, peers: PeerServer, version: int, tensors: TensorSet) -> TensorRef:
        """Hold a version and offer it to the job's sites; return where it can be pulled."""
        held = self._held.get(version)
        if held is not None and held.tensors is tensors:
            return held.offer.ref
        self.drop([version])
        offer = peers.shelf.put(tensors, version=version, readers=peers.members)
        self._held[version] = _Held(tensors, offer, peers.shelf)
        return offer.ref

    def retain(self, needed: Collection[str]) -> None:
        """Let go of what is not among these references, whoever thought that it might be."""
        refs = {version: ref_text(held.offer.ref) for version, held in self._held.items()}
        self.drop([version for version, ref in refs.items() if ref not in needed])

    def drop(self, versions: Collection[int]) -> None:
        """Let go of versions, as far as they are here."""
        for version in versions:
            held = self._held.pop(version, None)
            if held is not None:
                held.shelf.withdraw(held.offer)

    async def _pulled(self, peers: PeerServer, ref: TensorRef) -> TensorSet:
        session = peers.sites.get(ref.owner)
        if session is None:
            raise LinkLost(ref.owner, "is not connected")
        admits = Admission(self._initial.specs, aliases=self._initial.aliases)
        sink = LikeModel(ref.owner, admits, peers.context.limits.memory_bytes)
        await peers.context.downloader.fetch(session, ref, sink)
        return sink.tensors
