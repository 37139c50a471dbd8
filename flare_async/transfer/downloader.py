"""The reader's side of a transfer: pulls what is offered, in parallel, resumable and verified."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import anyio

from flare_async.errors import (
    AckStalled,
    ChannelReset,
    DigestMismatch,
    OfferGone,
    OfferNotFound,
    RemoteProtocolError,
    TensorFormatError,
    TransferError,
)
from flare_async.limits import KIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.transfer.digest import TensorHasher, tensor_hasher
from flare_async.transfer.pull import (
    LAYOUT_BYTES,
    PULL_SCHEMA,
    PULL_TOPIC,
    Layout,
    LayoutCache,
    PullRequest,
    TensorRef,
)
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Downloader"]

PARALLEL = 16  # tensors under way at once: enough to hide a round trip behind small ones
WINDOWS = 2  # credit windows of bytes under way besides the tensor that is waited for
LAYOUT_WINDOW = 64 * KIB  # the credit of a manifest, so that it needs little of a scarce budget
FIRST_PAUSE = 0.5  # seconds before the first try without progress, at most; it doubles


class Downloader:
    """Pulls references into sinks; one may serve any number of sessions.

    Over a byte transport each tensor lands straight in the sink's memory and is hashed piece by
    piece as it lands. Over a memory link the sink adopts the owner's memory.
    """

    def __init__(self, limits: Limits, layouts: LayoutCache) -> None:
        self._limits = limits
        self._layouts = layouts

    async def fetch(self, session: Session, ref: TensorRef, sink: TensorSink) -> int:
        """Pull all tensors of ``ref`` into ``sink`` and finish it; return the bytes pulled.

        Waits while bytes arrive: bounded by ``stall_timeout`` without any, ``max_resends`` times
        a tensor, with pauses of at most ``retry_cap``. Failing or being cancelled resets the pulls
        and discards the sink.

        Raises:
            OfferGone: the offer's block has ended.
            OfferNotFound: no such offer for this peer.
            DigestMismatch: what arrived is not what was sent.
            TensorFormatError: the manifest is malformed.
            AckStalled: nothing arrived for too long.
            LinkError: the link was lost.
        """
        try:
            layout = await self.layout(session, ref)
            sink.begin(layout.specs, layout.aliases)
            await self._pull_all(session, ref, layout, sink)
            sink.finish()
        except BaseException:
            sink.discard()
            raise
        return ref.nbytes

    async def layout(self, session: Session, ref: TensorRef) -> Layout:
        """Return the names, types and shapes of an offer; bounded and raising as ``fetch`` is."""
        layout = self._layouts.find(ref.layout)
        if layout is None:
            layout = await self._layouts.add(ref.layout, await self._manifest(session, ref))
        if layout.nbytes != ref.nbytes:
            problem = f"{session.peer} offers {ref.nbytes} bytes, its manifest {layout.nbytes}"
            raise TensorFormatError(problem)
        return layout

    async def _manifest(self, session: Session, ref: TensorRef) -> bytes:
        request = PULL_SCHEMA.encode(PullRequest(ref.key, "", 0, 0))
        window = min(LAYOUT_WINDOW, self._limits.window_bytes)
        channel = session.open(PULL_TOPIC, request, OpenOptions(end=True, window=window))
        try:
            return await self._read_all(channel)
        except ChannelReset as exc:
            raise translate(exc) from exc
        finally:
            channel.reset(ResetCode.CANCELLED, "not needed any more")

    async def _read_all(self, channel: Channel) -> bytes:
        data = bytearray()
        try:
            while len(data) <= LAYOUT_BYTES:
                data += await channel.receive_moving()
        except anyio.EndOfStream:
            return bytes(data)
        raise RemoteProtocolError("manifest", f"longer than {LAYOUT_BYTES} bytes")

    async def _pull_all(
        self, session: Session, ref: TensorRef, layout: Layout, sink: TensorSink
    ) -> None:
        waiting: deque[Pull] = deque()
        room, behind = WINDOWS * self._limits.window_bytes, 0  # bytes behind the first that waits
        try:
            for spec in layout.own:
                while waiting and (len(waiting) >= PARALLEL or behind >= room):
                    await waiting.popleft().finish()
                    behind -= waiting[0].spec.nbytes if waiting else 0
                behind += spec.nbytes if waiting else 0
                pull = Pull(session, ref, spec, sink)
                waiting.append(pull)
                pull.start()
            while waiting:
                await waiting.popleft().finish()
        finally:
            for pull in waiting:
                pull.cancel()


@dataclass(slots=True)
class Pull:
    """One tensor under way."""

    session: Session
    ref: TensorRef
    spec: TensorSpec
    sink: TensorSink
    tries: int = 0
    have: int = 0
    began: int = 0
    view: memoryview | None = None
    hashed: TensorHasher | None = None
    channel: Channel | None = None

    def start(self) -> None:
        """Ask for what is missing; the bytes land by themselves."""
        size, self.began = self.spec.nbytes, self.have
        request = PULL_SCHEMA.encode(PullRequest(self.ref.key, self.spec.name, self.have, size))
        if self.session.link.by_reference:
            options = OpenOptions(end=True, leased=True, window=max(size, 1))
            self.channel = self.session.open(PULL_TOPIC, request, options)
            self.channel.collect(size)
            return
        if self.view is None:
            self.view = self.sink.destination(self.spec.name, 0, size)
            self.hashed = tensor_hasher()
        options = OpenOptions(end=True, leased=True)
        self.channel = self.session.open(PULL_TOPIC, request, options)
        self.channel.lease(self.view[self.have :], self._on_landed)

    def _on_landed(self, offset: int, length: int) -> None:
        # Hashed while it is still in the processor's cache: that is most of the cost of hashing.
        view, hashed = self.view, self.hashed
        if view is not None and hashed is not None:
            hashed.update(view[self.have : self.have + length])
        self.have += length

    async def finish(self) -> None:
        """Wait for the rest, verify, and hand the tensor to the sink."""
        try:
            trailer = await self._landed()
            while not self._take(trailer):
                error = DigestMismatch(self.session.peer, self.spec.name, self.spec.nbytes)
                await self._again(error)
                trailer = await self._landed()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Give the pull up."""
        if self.channel is not None:
            self.channel.reset(ResetCode.CANCELLED, "not needed any more")

    async def _landed(self) -> bytes:
        while True:
            channel = self.channel
            if channel is None:
                raise TransferError(f"tensor {self.spec.name!r} was not asked for")
            try:
                return await channel.landed()
            except (AckStalled, ChannelReset) as exc:
                # Either side may be the first to find that nothing moves.
                if isinstance(exc, ChannelReset) and exc.reset_code != ResetCode.STALLED:
                    raise translate(exc) from exc
                if self.have == self.began:
                    await self._again(exc)
                else:
                    self.start()

    async def _again(self, error: Exception) -> None:
        limits = self.session.limits
        if self.tries >= limits.max_resends:
            raise error
        most = min(limits.retry_cap, FIRST_PAUSE * 2**self.tries)
        self.tries += 1
        if isinstance(error, DigestMismatch):
            self.have = 0
            self.hashed = tensor_hasher()
        # Full jitter: readers that failed together must not come back together.
        await anyio.sleep(self.session.random.stream("pull").uniform(0, most))
        self.start()

    def _take(self, trailer: bytes) -> bool:
        if self.view is None:
            self._adopt()
            return True
        if self.have != self.spec.nbytes or self.hashed is None:
            raise RemoteProtocolError(
                "short", f"tensor {self.spec.name!r}: {self.have} of {self.spec.nbytes} bytes came"
            )
        if self.hashed.digest() != trailer:
            return False
        self.sink.landed(self.spec.name, 0, self.spec.nbytes)
        return True

    def _adopt(self) -> None:
        chunks = [] if self.channel is None else self.channel.collected()
        have, size = sum(len(chunk) for chunk in chunks), self.spec.nbytes
        if have != size:
            raise RemoteProtocolError(
                "short", f"tensor {self.spec.name!r}: {have} of {size} bytes came"
            )
        # Memory comes whole and is adopted; what another source reads comes in pieces.
        whole = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.sink.adopt(self.spec.name, memoryview(whole))


def translate(error: ChannelReset) -> Exception:
    """Return what a reset of a pull means."""
    if error.reset_code == ResetCode.GONE:
        return OfferGone(f"{error.peer}: {error.message}")
    if error.reset_code == ResetCode.NOT_FOUND:
        return OfferNotFound(f"{error.peer}: {error.message}")
    return error
