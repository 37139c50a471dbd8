"""Tensors: how they are named, offered, pulled, staged and summed.

Theory of operation
-------------------
*Name.* A ``TensorSet`` is an immutable mapping of names to read-only bytes, made from NumPy
arrays or torch tensors without a copy where that is possible. Roles and links of one process share
it by reference. A ``Manifest`` is its description in the safetensors format, for the wire and for
files; what a peer sends is parsed strictly, and whatever is wrong with it is one typed error.

*Offer.* Tensors are never pushed. Their owner offers them by reference for as long as a block
lives, and whoever needs them pulls them, tensor by tensor, from any offset, at its own pace. What
is offered is read through a ``TensorSource``.

*Pull.* A reader writes into a ``TensorSink``: it asks where a range may land, writes, verifies, and
says that it has landed; ranges may come in any order and may be asked for again. Over a memory
link the sink adopts the owner's memory instead. A sink shows nothing before it is whole, so a
destination is never a live model. A tensor whose digest (blake3) is not that of its closing frame
is mended: the digests of its chunks (xxh3) tell which of them to pull again.

*Files.* A ``FileSource`` offers a file that need not fit into memory, a ``FileSink`` receives one;
of either a few MiB are in memory. ``serve_tensors`` and ``reach_tensors`` are a shelf and a
downloader for programs without roles.

*Stage.* An update arrives in a sink of the round's ``Reducer`` and waits there, in memory up to
``Limits.staging_bytes`` and beyond that in a nameless file, until it is whole. ``RepulledMean``
keeps none of them and pulls them again to add.

*Commit.* A whole update is admitted (names, exact types, shapes, finite values, weight) or refused
with a reason that names the site; refused, it has touched nothing. Admitted, it enters the sum
when every site before it in the cohort's order is settled. There is one kernel, and arrival never
decides the order, so the same participants give the same bits.

*Receipts.* *Received* follows ``finish`` of the sink: every byte has arrived and is verified, the
windows are free. *Committed* follows the round's checkpoint: only then may the site let go of its
offer, because what was merely received would be lost with this process.

*Copies.* User code gets a private writable copy from its slot's ``SlotPool``: memory is slots
times model, whatever the number of sites.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.transfer.admission import Admission
    from flare_async.transfer.content import ContentCache
    from flare_async.transfer.digest import DigestBuilder, chunk_digests, tensor_digest
    from flare_async.transfer.downloader import Downloader
    from flare_async.transfer.exchange import (
        TensorReader,
        TensorServer,
        reach_tensors,
        read_ref,
        ref_text,
        serve_tensors,
    )
    from flare_async.transfer.fetching import FetchReport
    from flare_async.transfer.file_sink import FileSink
    from flare_async.transfer.file_source import FileSource
    from flare_async.transfer.files import file_chunks, read_file
    from flare_async.transfer.manifest import Manifest
    from flare_async.transfer.mean import MeanOptions, MeanStatistics, WeightedMean
    from flare_async.transfer.pool import SlotPool
    from flare_async.transfer.pull import LayoutCache, TensorRef
    from flare_async.transfer.reducer import Reducer
    from flare_async.transfer.repull import RepulledMean
    from flare_async.transfer.shelf import Offer, Shelf
    from flare_async.transfer.sink import MemorySink, TensorSink
    from flare_async.transfer.source import MemorySource, TensorSource
    from flare_async.transfer.spec import TensorSpec
    from flare_async.transfer.tensors import TensorSet

__all__ = [
    "Admission",
    "ContentCache",
    "DigestBuilder",
    "Downloader",
    "FetchReport",
    "FileSink",
    "FileSource",
    "LayoutCache",
    "Manifest",
    "MeanOptions",
    "MeanStatistics",
    "MemorySink",
    "MemorySource",
    "Offer",
    "Reducer",
    "RepulledMean",
    "Shelf",
    "SlotPool",
    "TensorReader",
    "TensorRef",
    "TensorServer",
    "TensorSet",
    "TensorSink",
    "TensorSource",
    "TensorSpec",
    "WeightedMean",
    "chunk_digests",
    "file_chunks",
    "reach_tensors",
    "read_file",
    "read_ref",
    "ref_text",
    "serve_tensors",
    "tensor_digest",
]

# Imported on first use: a training script imports modules of this package, and needs few of them.
_MODULES = {
    "Admission": "flare_async.transfer.admission",
    "ContentCache": "flare_async.transfer.content",
    "DigestBuilder": "flare_async.transfer.digest",
    "chunk_digests": "flare_async.transfer.digest",
    "tensor_digest": "flare_async.transfer.digest",
    "Downloader": "flare_async.transfer.downloader",
    "TensorReader": "flare_async.transfer.exchange",
    "TensorServer": "flare_async.transfer.exchange",
    "reach_tensors": "flare_async.transfer.exchange",
    "read_ref": "flare_async.transfer.exchange",
    "ref_text": "flare_async.transfer.exchange",
    "serve_tensors": "flare_async.transfer.exchange",
    "FetchReport": "flare_async.transfer.fetching",
    "FileSink": "flare_async.transfer.file_sink",
    "FileSource": "flare_async.transfer.file_source",
    "file_chunks": "flare_async.transfer.files",
    "read_file": "flare_async.transfer.files",
    "Manifest": "flare_async.transfer.manifest",
    "MeanOptions": "flare_async.transfer.mean",
    "MeanStatistics": "flare_async.transfer.mean",
    "WeightedMean": "flare_async.transfer.mean",
    "SlotPool": "flare_async.transfer.pool",
    "LayoutCache": "flare_async.transfer.pull",
    "TensorRef": "flare_async.transfer.pull",
    "Reducer": "flare_async.transfer.reducer",
    "RepulledMean": "flare_async.transfer.repull",
    "Offer": "flare_async.transfer.shelf",
    "Shelf": "flare_async.transfer.shelf",
    "MemorySink": "flare_async.transfer.sink",
    "TensorSink": "flare_async.transfer.sink",
    "MemorySource": "flare_async.transfer.source",
    "TensorSource": "flare_async.transfer.source",
    "TensorSpec": "flare_async.transfer.spec",
    "TensorSet": "flare_async.transfer.tensors",
}

if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a name on its first use (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
