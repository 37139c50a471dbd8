"""One tensor under way: asked for, landed, verified, and mended where it arrived damaged."""

from __future__ import annotations

import asyncio

from flare_async.errors import (
    AckStalled,
    ChannelReset,
    DigestMismatch,
    RemoteProtocolError,
    TransferError,
)
from flare_async.net.channel import Channel
from flare_async.transfer.digest import CHUNK, TensorHasher, tensor_hasher
from flare_async.transfer.fetching import Fetching, Retries, is_stall, translate
from flare_async.transfer.landing import Adoption, Landing
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.transfer.repair import bad_ranges, chunk_count
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["TensorPull"]


class RangePull:
    """A range of a tensor under way; what has landed stays when its channel is given up."""

    __slots__ = ("_began", "_channel", "_fetching", "_landing", "_name", "_retries")

    def __init__(self, fetching: Fetching, name: str, landing: Landing | Adoption) -> None:
        self._fetching = fetching
        self._name = name
        self._landing = landing
        self._retries: Retries | None = None
        self._began = 0
        self._channel: Channel | None = None

    def start(self) -> None:
        """Ask for what is missing; the bytes land by themselves."""
        fetching, landing = self._fetching, self._landing
        landing.begin()
        start, stop = landing.have, landing.stop
        self._began = start
        request = PULL_SCHEMA.encode(PullRequest(fetching.ref.key, self._name, start, stop))
        options = OpenOptions(end=True, leased=True, window=fetching.window(stop - start))
        self._channel = fetching.session.open(PULL_TOPIC, request, options)
        self._channel.lease_from(landing, stop - start)

    async def finish(self) -> bytes:
        """Wait for the rest; return the closing frame's trailer."""
        while True:
            if self._channel is None:
                raise TransferError(f"tensor {self._name!r} was not asked for")
            try:
                trailer = await self._channel.landed()
            except (AckStalled, ChannelReset) as exc:
                if not is_stall(exc):
                    raise (translate(exc) if isinstance(exc, ChannelReset) else exc) from exc
                self._retries = self._retries or Retries(self._fetching.session)
                if self._landing.have == self._began:
                    await self._retries.pause(exc)
                else:
                    self._retries.moved()
                self.start()
                continue
            self._check_length()
            return trailer

    def cancel(self) -> None:
        """Give the pull up."""
        if self._channel is not None:
            self._channel.reset(ResetCode.CANCELLED, "not needed any more")

    def _check_length(self) -> None:
        have, stop = self._landing.have, self._landing.stop
        if have != stop:
            raise RemoteProtocolError(
                "short", f"tensor {self._name!r}: {have} of {stop} bytes came"
            )


class TensorPull:
    """One tensor of a fetch. Over a memory link it is adopted; elsewhere its digest must fit."""

    __slots__ = ("_fetching", "_hasher", "_pull", "_retries", "spec")

    def __init__(self, fetching: Fetching, spec: TensorSpec) -> None:
        self.spec = spec
        self._fetching = fetching
        self._retries: Retries | None = None  # of a tensor that came damaged: never forgotten
        self._hasher: TensorHasher | None = None
        self._pull: RangePull | None = None

    def start(self) -> None:
        """Ask for the tensor."""
        fetching, size = self._fetching, self.spec.nbytes
        if fetching.session.link.by_reference:
            fetching.adopted_bytes += size
            self._begin(Adoption(fetching.sink, self.spec.name, size))
        else:
            fetching.pulled_bytes += size
            whole, self._hasher = self._whole()
            self._begin(whole)

    async def finish(self) -> None:
        """Wait for the rest, verify it, and mend what is damaged.

        Raises:
            DigestMismatch: it was damaged each time.
            FlareError: as ``Downloader.fetch``.
        """
        try:
            trailer = await self._finished()
            if self._hasher is None:
                return
            digest = self._hasher.digest()
            while digest != trailer:
                spec, peer = self.spec, self._fetching.session.peer
                self._retries = self._retries or Retries(self._fetching.session)
                await self._retries.pause(DigestMismatch(peer, spec.name, spec.nbytes))
                digest, trailer = await self._mend(digest, self._retries)
            self._fetching.digests[self.spec.name] = digest
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Give the pull up."""
        if self._pull is not None:
            self._pull.cancel()

    def _whole(self) -> tuple[Landing, TensorHasher]:
        hasher = tensor_hasher()
        return Landing(self._fetching.sink, self.spec.name, 0, self.spec.nbytes, hasher), hasher

    def _begin(self, landing: Landing | Adoption) -> None:
        self._pull = RangePull(self._fetching, self.spec.name, landing)
        self._pull.start()

    async def _finished(self) -> bytes:
        if self._pull is None:
            raise TransferError(f"tensor {self.spec.name!r} was not asked for")
        return await self._pull.finish()

    async def _mend(self, digest: bytes, retries: Retries) -> tuple[bytes, bytes]:
        """Pull again what is damaged; return what the tensor's digest is, and should be."""
        name, size = self.spec.name, self.spec.nbytes
        ranges = [(0, size)]
        if size > CHUNK:
            trailer, ranges = await bad_ranges(self._fetching, self.spec, retries)
            if digest == trailer:  # the tensor is whole, the first trailer was not
                return digest, trailer
            if ranges and ranges != [(0, size)]:
                for start, stop in ranges:
                    self._again(start, stop)
                    self._begin(Landing(self._fetching.sink, name, start, stop))
                    await self._finished()
                return await self._digest(), trailer
        self._again(0, size)
        whole, hasher = self._whole()
        self._begin(whole)
        trailer = await self._finished()
        return hasher.digest(), trailer

    def _again(self, start: int, stop: int) -> None:
        self._fetching.sink.reject(self.spec.name, start, stop - start)
        self._fetching.repulled_bytes += stop - start
        self._fetching.repulled_chunks += chunk_count(stop - start)

    async def _digest(self) -> bytes:
        hasher = tensor_hasher()
        for at in range(0, self.spec.nbytes, CHUNK):
            nbytes = min(CHUNK, self.spec.nbytes - at)
            hasher.update(self._fetching.sink.read(self.spec.name, at, nbytes))
            await asyncio.sleep(0)
        return hasher.digest()
