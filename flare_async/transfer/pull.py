"""What travels between a shelf and a downloader: references, requests and manifests."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Self

from flare_async.errors import TensorFormatError
from flare_async.hot_value import hot_value
from flare_async.limits import KIB, MIB
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.manifest import ALIASES_KEY, Manifest, tied_text
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.schema import Schema

__all__ = [
    "LAYOUT_BYTES",
    "PULL_SCHEMA",
    "PULL_TOPIC",
    "DigestRequest",
    "Layout",
    "LayoutCache",
    "Printed",
    "Prints",
    "PullRequest",
    "TensorRef",
]

PULL_TOPIC = "pull"
LAYOUT_BYTES = 1 * MIB  # the longest manifest that is accepted
INLINE_LAYOUT = 16 * KIB  # what is parsed on the loop takes about a millisecond


@hot_value(frozen=True, slots=True)
class TensorRef:
    """Where tensors can be pulled: ``key`` is unguessable, ``layout`` is the manifest's digest."""

    owner: str
    key: str
    version: int
    layout: bytes
    nbytes: int


@hot_value(frozen=True, slots=True)
class PullRequest:
    """Bytes ``start`` to ``stop`` of one tensor; an empty name asks for the manifest."""

    key: str
    tensor: str
    start: int
    stop: int


@hot_value(frozen=True, slots=True)
class DigestRequest:
    """Asks for the xxh3 of each chunk of a tensor; an empty name asks for every tensor's blake3.

    The first are ``CHUNK_DIGEST`` bytes each, and the closing frame has the tensor's blake3; the
    others are ``TENSOR_DIGEST`` bytes each, for the tensors that have bytes of their own, in order.
    """

    key: str
    tensor: str


PULL_SCHEMA: Schema[PullRequest | DigestRequest] = Schema((1, PullRequest), (2, DigestRequest))


class Layout:
    """The names, types and shapes of an offer, and which names share their bytes.

    ``own`` are the tensors that have bytes of their own, ``nbytes`` is how many.
    """

    __slots__ = ("aliases", "nbytes", "own", "specs")

    def __init__(self, specs: tuple[TensorSpec, ...], aliases: Mapping[str, str]) -> None:
        self.specs = specs
        self.aliases = aliases
        self.own = tuple(spec for spec in specs if spec.name not in aliases)
        self.nbytes = sum(spec.nbytes for spec in self.own)


@hot_value(frozen=True, slots=True)
class Printed:
    """A layout as it is pulled: a safetensors header, its aliases as metadata, and its digest.

    ``sizes`` are the bytes of the tensors that can be pulled, by name, in the order in which their
    reader finds them in ``data``: those that are no aliases.
    """

    specs: Sequence[TensorSpec]
    aliases: Mapping[str, str]
    data: bytes
    digest: bytes
    sizes: Mapping[str, int]
    nbytes: int

    @classmethod
    def of(cls, specs: tuple[TensorSpec, ...], aliases: Mapping[str, str]) -> Self:
        """Return the printed form of a layout.

        Raises:
            TensorFormatError: it is longer than any reader accepts, or a name comes twice.
        """
        manifest = Manifest(specs, tied_text(aliases))
        data = manifest.header()
        if len(data) > LAYOUT_BYTES:
            problem = f"a manifest of {len(data)} bytes, {LAYOUT_BYTES} can be pulled"
            raise TensorFormatError(f"{len(specs)} tensors have {problem}")
        sizes = {spec.name: spec.nbytes for spec in manifest.specs if spec.name not in aliases}
        digest = tensor_digest(memoryview(data))
        return cls(specs, aliases, data, digest, sizes, sum(sizes.values()))

    def shows(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> bool:
        """Whether this is that layout: model and updates of a run share one tuple of specs."""
        return self.specs is specs and self.aliases == aliases


class Prints:
    """The latest printed layout, for all shelves of a process: thousands of sites offer one."""

    def __init__(self) -> None:
        self._latest: Printed | None = None

    def of(self, specs: tuple[TensorSpec, ...], aliases: Mapping[str, str]) -> Printed:
        """Return the printed form of a layout.

        Raises:
            TensorFormatError: as ``Printed.of``.
        """
        latest = self._latest
        if latest is None or not latest.shows(specs, aliases):
            latest = self._latest = Printed.of(specs, aliases)
        return latest


class LayoutCache:
    """Layouts by the digest of their bytes: an unchanged manifest is pulled once.

    What a digest names cannot change, so all roles of a process may share one. It keeps the latest
    ones, up to ``most`` bytes of manifests (in memory, four times as many), because peers choose
    what they offer.
    """

    def __init__(self, most: int = 8 * LAYOUT_BYTES) -> None:
        self._most = most
        self._layouts: OrderedDict[bytes, tuple[Layout, int]] = OrderedDict()

    def find(self, digest: bytes) -> Layout | None:
        """Return the layout of that digest, if it is known."""
        found = self._layouts.get(digest)
        if found is None:
            return None
        self._layouts.move_to_end(digest)
        return found[0]

    async def add(self, digest: bytes, data: bytes) -> Layout:
        """Check and keep a manifest that came from a peer; a long one is parsed in a thread.

        Waits for that parse only. Cancelling keeps nothing.

        Raises:
            TensorFormatError: it is not the manifest of that digest, or not well formed.
        """
        if tensor_digest(memoryview(data)) != digest:
            raise TensorFormatError(f"a manifest of {len(data)} bytes has another digest")
        if len(data) <= INLINE_LAYOUT:
            layout = parse_layout(data)
        else:
            layout = await asyncio.to_thread(parse_layout, data)
        known = self.find(digest)
        if known is not None:  # several have pulled it at once, and share one from here on
            return known
        self._layouts[digest] = layout, len(data)
        while sum(size for _, size in self._layouts.values()) > self._most:
            self._layouts.popitem(last=False)
        return layout


def parse_layout(data: bytes) -> Layout:
    """Return the layout of a peer's manifest. Raises TensorFormatError for anything else."""
    manifest = Manifest.parse(data, max_bytes=LAYOUT_BYTES)
    text = manifest.metadata.get(ALIASES_KEY, "{}")
    try:
        aliases = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise TensorFormatError("a manifest's aliases are not JSON") from exc
    known = {spec.name: spec for spec in manifest.specs}
    if not isinstance(aliases, dict):
        raise TensorFormatError("a manifest's aliases are no object")
    for name, target in aliases.items():
        first = known.get(target) if isinstance(target, str) else None
        alias = known.get(name)
        if first is None or alias is None or target in aliases or first.nbytes != alias.nbytes:
            raise TensorFormatError(f"a manifest's alias {name[:40]!r} does not fit")
    return Layout(manifest.specs, aliases)
