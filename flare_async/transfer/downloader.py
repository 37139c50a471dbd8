"""The reader's side of a transfer: pulls what is offered, in parallel, resumable and verified."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

import anyio
import structlog

from flare_async.errors import ChannelReset, RemoteProtocolError, TensorFormatError, TransferError
from flare_async.limits import KIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.transfer.carried import Carried, fits_digest, pour, whole_views
from flare_async.transfer.content import ContentCache
from flare_async.transfer.digest import CHUNK, TENSOR_DIGEST
from flare_async.transfer.fetching import Fetching, FetchReport, Retries, translate
from flare_async.transfer.pull import (
    LAYOUT_BYTES,
    PULL_SCHEMA,
    PULL_TOPIC,
    Layout,
    LayoutCache,
    PullRequest,
    TensorRef,
)
from flare_async.transfer.repair import ask_digests
from flare_async.transfer.sink import MemorySink, StoredSink, TensorSink, stored_of, whole_of
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensor_pull import TensorPull
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["PARALLEL", "Downloader"]

log = structlog.get_logger()
PARALLEL = 16  # tensors under way at once: enough to hide a round trip behind small ones
WINDOWS = 2  # credit windows of bytes under way besides the tensor that is waited for
LAYOUT_WINDOW = 64 * KIB  # the credit of a manifest, so that it needs little of a scarce budget


class Downloader:
    """Pulls references into sinks; one may serve any number of sessions.

    Over a byte transport each tensor lands straight in the sink's memory and is hashed piece by
    piece as it lands; of one that arrives damaged, the chunks that differ are pulled again. Over a
    memory link the sink adopts the owner's memory.
    """

    def __init__(self, limits: Limits, layouts: LayoutCache) -> None:
        self._limits = limits
        self._layouts = layouts

    async def fetch(
        self,
        session: Session,
        ref: TensorRef,
        sink: TensorSink,
        *,
        known: ContentCache | None = None,
        only: Collection[str] | None = None,
    ) -> FetchReport:
        """Pull the tensors of ``ref`` into ``sink`` and finish it; return what was counted.

        ``known`` has tensors of the same job: those that are offered unchanged are adopted from
        there, and afterwards it has those of this fetch, if the sink is a ``MemorySink``. ``only``
        names the tensors to pull.

        Waits while bytes arrive: bounded by ``stall_timeout`` without any, ``max_resends`` times
        a tensor, with pauses of at most ``retry_cap``. Failing or being cancelled resets the pulls
        and discards the sink.

        Raises:
            OfferGone: the offer's block has ended; OfferNotFound: there is none for this peer.
            DigestMismatch: what arrived is not what was sent.
            TensorFormatError: the manifest is malformed.
            TransferError: the sink cannot keep what arrives, or ``only`` names what is not offered.
            ChannelReset: the owner gave the pull up, for instance because its file cannot be read.
            AckStalled: nothing arrived for too long; BelowMinRate: too little did.
            FlareError: the link or the protocol is broken, or the sink refuses what is offered.
        """
        try:
            layout = part_of(await self.layout(session, ref), only)
            sink.begin(layout.specs, layout.aliases)
            fetching = Fetching(session, ref, sink)
            await self._pull_all(fetching, await self._adopt(fetching, layout, known))
            await finish(sink)
        except BaseException:
            sink.discard()
            raise
        if known is not None and isinstance(sink, MemorySink):
            known.keep(sink.tensors, fetching.digests)
        return fetching.report(layout.nbytes)

    async def take(
        self, session: Session, ref: TensorRef, sink: TensorSink, carried: Carried
    ) -> None:
        """Fill ``sink`` with what was carried, and finish it; what arrived damaged is pulled.

        Waits, is bounded, fails and raises as ``fetch`` does; with nothing to pull it waits for
        nothing.

        Raises:
            FlareError: as ``fetch``.
        """
        by_reference = session.link.by_reference
        if not by_reference and not fits_digest(carried.chunks, carried.digest):
            log.warning("carried_damaged", peer=session.peer, nbytes=ref.nbytes)
            await self.fetch(session, ref, sink)
            return
        try:
            layout = await self.layout(session, ref)
            whole = whole_of(sink) if by_reference else None
            views = None if whole is None else whole_views(carried.chunks, layout.own)
            if whole is not None and views is not None:
                whole.adopt_all(layout.specs, layout.aliases, views)
                return
            sink.begin(layout.specs, layout.aliases)
            adopt = by_reference and stored_of(sink) is None
            pour(carried.chunks, layout.own, sink, adopt=adopt)
            await finish(sink)
        except BaseException:
            sink.discard()
            raise

    async def layout(self, session: Session, ref: TensorRef) -> Layout:
        """Return the names, types and shapes of an offer; bounded and raising as ``fetch`` is."""
        layout = self._layouts.find(ref.layout)
        if layout is None or session.random.buggify("forgotten manifest"):
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

    async def _adopt(
        self, fetching: Fetching, layout: Layout, known: ContentCache | None
    ) -> Sequence[TensorSpec]:
        """Take what is here already; return the tensors that must be pulled."""
        if known is None or fetching.session.link.by_reference:
            return layout.own
        sizes = known.sizes()
        if not any(spec.nbytes in sizes for spec in layout.own):
            known.clear()
            return layout.own
        # All of the offer's tensors are listed there, whichever of them are wanted.
        offered = (await self.layout(fetching.session, fetching.ref)).own
        size, retries = TENSOR_DIGEST * len(offered), Retries(fetching.session)
        data, _ = await ask_digests(fetching, "", size, retries)
        cut = [data[at : at + TENSOR_DIGEST] for at in range(0, size, TENSOR_DIGEST)]
        known.retain(cut)
        digests = dict(zip((spec.name for spec in offered), cut, strict=True))
        return [spec for spec in layout.own if not await adopted(fetching, spec, digests, known)]

    async def _pull_all(self, fetching: Fetching, specs: Sequence[TensorSpec]) -> None:
        waiting: deque[TensorPull] = deque()
        behind = 0  # bytes behind the first that waits
        parallel = 1 if fetching.session.random.buggify("one pull at a time") else PARALLEL
        try:
            for spec in specs:
                room = fetching.credit(WINDOWS * self._limits.window_bytes)
                while waiting and (len(waiting) >= parallel or behind >= room):
                    await waiting.popleft().finish()
                    behind -= waiting[0].spec.nbytes if waiting else 0
                behind += spec.nbytes if waiting else 0
                pull = TensorPull(fetching, spec)
                waiting.append(pull)
                pull.start()
            while waiting:
                await waiting.popleft().finish()
        finally:
            for pull in waiting:
                pull.cancel()


def part_of(layout: Layout, only: Collection[str] | None) -> Layout:
    """Return the layout of some tensors; tied ones come with the first of their names.

    Raises:
        TransferError: a name that is not offered.
    """
    if only is None:
        return layout
    first = {layout.aliases.get(name, name) for name in only}
    absent = first - {spec.name for spec in layout.own}
    if absent:
        raise TransferError(f"tensor {min(absent)!r}: not among the {len(layout.own)} on offer")
    wanted = first | set(only)
    specs = tuple(spec for spec in layout.specs if spec.name in wanted)
    return Layout(specs, {n: t for n, t in layout.aliases.items() if n in wanted})


async def adopted(
    fetching: Fetching, spec: TensorSpec, digests: dict[str, bytes], known: ContentCache
) -> bool:
    """Adopt a tensor whose content is here; return whether it was."""
    digest = digests[spec.name]
    view = known.find(digest, spec.nbytes)
    if view is None:
        return False
    if fetching.stored is None:
        fetching.sink.adopt(spec.name, view)
    else:
        await store(fetching.sink, spec.name, view)
    fetching.adopted_bytes += spec.nbytes
    fetching.digests[spec.name] = digest
    return True


async def store(sink: TensorSink, name: str, view: memoryview) -> None:
    """Write a tensor that is here a chunk at a time: a disk takes its time for each."""
    for at in range(0, view.nbytes, CHUNK):
        sink.write(name, at, view[at : at + CHUNK])
        await asyncio.sleep(0)


async def finish(sink: TensorSink) -> None:
    """End a sink whose every tensor was verified; the disk is waited for in a thread.

    A file that was in its place already when the fetch was cancelled stays there, whole.
    """
    stored = stored_of(sink)
    if stored is not None:
        await settled(stored)
    sink.finish()


async def settled(sink: StoredSink) -> None:
    """Wait for the thread that writes a file out; when cancelled, do so before anything else.

    The file must not be closed under it. anyio's shield keeps off the scopes of anyio, and not
    ``asyncio.timeout`` or a task's own ``cancel``.
    """
    thread = asyncio.get_running_loop().run_in_executor(None, sink.settle)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not thread.done():
            try:
                await asyncio.wait([thread])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is None:
        return thread.result()
    thread.exception()  # the sink is discarded in any case
    raise cancelled
