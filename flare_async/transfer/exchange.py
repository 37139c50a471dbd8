"""Tensors and files between two programs, without a federation: offered here, pulled there."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError, TensorFormatError
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.groups import single_error
from flare_async.net.link import Link, Listener
from flare_async.net.reception import Reception
from flare_async.net.redial import Redial
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.ports import Network
from flare_async.transfer.content import ContentCache
from flare_async.transfer.downloader import PARALLEL, Downloader
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.file_source import FileSource
from flare_async.transfer.offer import Offer
from flare_async.transfer.pull import LayoutCache, TensorRef
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from flare_async.wire.schema import Schema
from flare_async.wire.session import Side
from flare_async.wire.windows import CreditBudget

__all__ = ["TensorReader", "TensorServer", "reach_tensors", "read_ref", "ref_text", "serve_tensors"]

REF_SCHEMA: Schema[TensorRef] = Schema((1, TensorRef))
log = structlog.get_logger()


def ref_text(ref: TensorRef) -> str:
    """Return a reference as text without spaces, to be given to whoever may read."""
    return base64.urlsafe_b64encode(REF_SCHEMA.encode(ref)).decode()


def read_ref(text: str) -> TensorRef:
    """Return the reference in a text.

    Raises:
        TensorFormatError: it is none.
    """
    try:
        data = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        return REF_SCHEMA.decode(data, Limits())
    except (binascii.Error, UnicodeEncodeError, RemoteProtocolError) as exc:
        raise TensorFormatError(f"no reference: {text[:40]!r}") from exc


class TensorServer:
    """Offers tensors and files to whoever connects and has their reference.

    Made by ``serve_tensors``. What is offered must not change until it is removed.
    """

    def __init__(self, address: str, shelf: Shelf) -> None:
        self.address = address
        self._shelf = shelf
        self._offers: dict[str, Offer] = {}
        self._files: dict[str, FileSource] = {}

    def add_tensors(
        self, tensors: TensorSet | Mapping[str, object], *, readers: Collection[str] | None = None
    ) -> TensorRef:
        """Offer a model, such as a ``state_dict()``, from its own memory; nothing is copied.

        ``readers`` names the peers that may pull, None is everybody who has the reference.

        Raises:
            TensorFormatError: a name or value cannot travel, the message names the key; or there
                are more tensors than a manifest can list.
        """
        given = tensors if isinstance(tensors, TensorSet) else TensorSet.from_params(tensors)
        offer = self._shelf.put(given, readers=readers)
        self._offers[offer.ref.key] = offer
        return offer.ref

    async def add_file(
        self,
        path: Path | str,
        *,
        plain_as: str | None = None,
        readers: Collection[str] | None = None,
    ) -> TensorRef:
        """Offer a safetensors file without loading it, or any file as bytes named ``plain_as``.

        Waits for a thread that reads the header.

        Raises:
            WorkspaceError: the file cannot be read.
            TensorFormatError: it is no safetensors file, or has more tensors than a manifest can
                list.
        """
        source = await asyncio.to_thread(FileSource, path, plain_as=plain_as)
        offer = self._shelf.put(source, readers=readers)
        self._offers[offer.ref.key] = offer
        self._files[offer.ref.key] = source
        return offer.ref

    def served(self, ref: TensorRef) -> Mapping[str, int]:
        """Return the bytes that were asked for, by peer."""
        offer = self._offers.get(ref.key)
        return {} if offer is None else dict(offer.served)

    def remove(self, ref: TensorRef) -> None:
        """End an offer; whoever still reads gets ``OfferGone``. Harmless more than once."""
        offer = self._offers.pop(ref.key, None)
        source = self._files.pop(ref.key, None)
        if offer is not None:
            self._shelf.withdraw(offer)
        if source is not None:
            source.close()

    def close(self) -> None:
        """End all offers."""
        for offer in list(self._offers.values()):
            self.remove(offer.ref)


class TensorReader:
    """Pulls what a ``TensorServer`` offers. Made by ``reach_tensors``.

    Of downloads that are begun together, as many are under way as the session has channels for;
    the others wait for one of these to end.
    """

    def __init__(self, session: Session, downloader: Downloader) -> None:
        self._session = session
        self._downloader = downloader
        self._turns = asyncio.Semaphore(max(1, session.limits.channels // 2 // PARALLEL))

    async def download_tensors(
        self,
        ref: TensorRef,
        *,
        known: ContentCache | None = None,
        memory_bytes: int | None = None,
    ) -> TensorSet:
        """Return the tensors, verified; with ``known``, those that are here are not sent again.

        ``memory_bytes`` is the most that may be accepted. Waits as ``Downloader.fetch`` does.

        Raises:
            FlareError: as ``Downloader.fetch``; ResourceLimit: more than ``memory_bytes``.
        """
        sink = MemorySink(memory_bytes=memory_bytes)
        async with self._turns:
            await self._downloader.fetch(self._session, ref, sink, known=known)
        return sink.tensors

    async def download_file(
        self,
        ref: TensorRef,
        path: Path | str,
        *,
        plain: bool = False,
        max_bytes: int | None = None,
    ) -> Path:
        """Write the tensors into a safetensors file; ``plain`` writes one tensor's bytes alone.

        The file appears whole or not at all. Waits as ``Downloader.fetch`` does, and for the disk.

        Raises:
            FlareError: as ``Downloader.fetch``; ResourceLimit: more than ``max_bytes``.
        """
        sink = FileSink(path, plain=plain, max_bytes=max_bytes)
        async with self._turns:
            await self._downloader.fetch(self._session, ref, sink)
        return sink.path


@asynccontextmanager
async def serve_tensors(
    address: str,
    *,
    name: str = "server",
    limits: Limits | None = None,
    network: Network[Link, Listener] | None = None,
) -> AsyncIterator[TensorServer]:
    """Listen on ``address`` and answer pulls while the block lasts; leaving it ends all offers.

    Raises:
        ConnectFailed: the address cannot be listened on.
    """
    bounds = limits or Limits()
    async with _end(name, "server", bounds) as end:
        listener = await (network or Transports(bounds)).listen(address)
        shelf = Shelf(name, end.tasks, end.clock, end.random, bounds)
        server = TensorServer(listener.address, shelf)
        try:
            end.tasks.start_soon(_accept, listener, end, shelf, name="accept")
            yield server
        finally:
            server.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(bounds.shutdown_timeout):
                await listener.aclose()


@asynccontextmanager
async def reach_tensors(
    address: str,
    *,
    name: str = "reader",
    limits: Limits | None = None,
    network: Network[Link, Listener] | None = None,
) -> AsyncIterator[TensorReader]:
    """Connect to ``address`` and pull while the block lasts; a link that is lost is replaced.

    Raises:
        LinkError: no connection.
    """
    bounds = limits or Limits()
    transports = network or Transports(bounds)
    async with _end(name, "reader", bounds) as end:

        async def dial() -> Link:
            return await transports.connect(address)

        lifeline = Redial(dial, end)
        async with Session(await dial(), Side.CONNECTOR, end, lifeline=lifeline) as session:
            yield TensorReader(session, Downloader(bounds, LayoutCache()))


@asynccontextmanager
async def _end(name: str, role: str, limits: Limits) -> AsyncIterator[Endpoint]:
    """Own what the sessions of one end share; leaving ends whatever still runs."""
    clock = LoopClock()
    with single_error(), Watchdog(clock) as watchdog:
        async with anyio.create_task_group() as tasks:
            yield Endpoint(
                name=name,
                role=role,
                clock=clock,
                random=SystemRandom(),
                watchdog=watchdog,
                limits=limits,
                tasks=tasks,
                budget=CreditBudget(limits.process_bytes),
            )
            tasks.cancel_scope.cancel()


async def _accept(listener: Listener, end: Endpoint, shelf: Shelf) -> None:
    reception = Reception(end)
    async for link in listener:
        end.tasks.start_soon(_serve, link, reception, shelf, name=f"serve {link.address}")


async def _serve(link: Link, reception: Reception, shelf: Shelf) -> None:
    try:
        session = await reception.receive(link)
        if session is None:  # it belongs to a session that is served already
            return
        shelf.attach(session)  # before the first pull can come
        async with session:
            async for channel in session:
                channel.reset(ResetCode.REFUSED, "tensors are pulled, and nothing else")
    except FlareError as exc:
        log.info("reader_left", address=link.address, code=exc.code, error=str(exc))
