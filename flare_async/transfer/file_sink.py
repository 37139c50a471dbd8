"""Receives tensors into a file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flare_async.errors import ResourceLimit, TensorFormatError, TransferError
from flare_async.transfer.arrivals import NO_ALIASES, SinkState
from flare_async.transfer.buffers import Leases
from flare_async.transfer.manifest import Manifest, tied_text
from flare_async.transfer.new_file import NewFile
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.written_sink import WrittenSink

__all__ = ["FileSink"]


class FileSink(WrittenSink):
    """Writes a safetensors file of what is pulled; ``plain`` writes one tensor's bytes alone.

    Whoever looks at ``path`` sees the old file or the whole new one (``NewFile``). In memory there
    is a MiB for each pull that is in the middle of a frame, and 16 MiB at most. ``max_bytes``
    bounds what ``begin`` accepts, because a peer says how large its tensors are.
    """

    def __init__(
        self, path: Path | str, *, plain: bool = False, max_bytes: int | None = None
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._plain = plain
        self._max_bytes = max_bytes
        self._starts: dict[str, int] = {}
        self._file: NewFile | None = None

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self._arrivals.specs

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Make the file, at its full length.

        Raises:
            TransferError: the sink is in use, or the system refuses to make the file.
            TensorFormatError: a name comes twice, an alias does not match its first name, or a
                plain file was offered as several tensors.
            ResourceLimit: they need more than ``max_bytes``.
        """
        own = tuple(spec for spec in specs if spec.name not in aliases)
        total = sum(spec.nbytes for spec in own)
        if self._max_bytes is not None and total > self._max_bytes:
            raise ResourceLimit("max_bytes", total, self._max_bytes)
        if self._plain and len(specs) != 1:
            raise TensorFormatError(f"{self.path.name}: {len(specs)} tensors are no plain file")
        self._arrivals.begin(specs, aliases)
        header = b"" if self._plain else self._place(own, aliases)
        if self._plain:
            self._starts = {specs[0].name: 0}
        self._leases = {spec.name: Leases(self._pool) for spec in own}
        self._file = NewFile(self.path, len(header) + total)
        self._file.write(0, memoryview(header))

    def settle(self) -> None:
        """Put the file in its place, once every byte has landed; may be called in a thread.

        Raises:
            TransferError: bytes are missing, or the system refuses.
        """
        self._arrivals.check_whole()
        self._opened().place()

    def finish(self) -> None:
        """End, once ``settle`` has put the file in its place.

        Raises:
            TransferError: bytes are missing, or the file is not in its place.
        """
        self._arrivals.check_whole()
        if not self._opened().placed:
            raise TransferError(f"{self.path}: is whole, but not in its place")
        self._arrivals.finish()
        self._close()

    def discard(self) -> None:
        """Let go of what is not in its place; a file that is stays."""
        self._arrivals.state = SinkState.DISCARDED
        self._close()

    # Internals

    def _place(self, own: tuple[TensorSpec, ...], aliases: Mapping[str, str]) -> bytes:
        manifest = Manifest(own, tied_text(aliases))
        header = manifest.header()
        self._starts = {n: len(header) + begin for n, (begin, _) in manifest.offsets.items()}
        return header

    def _opened(self) -> NewFile:
        if self._file is None:
            raise TransferError(f"{self.path}: is not open")
        return self._file

    def _write(self, name: str, offset: int, data: memoryview) -> None:
        self._opened().write(self._starts[name] + offset, data)

    def _read(self, name: str, offset: int, nbytes: int) -> memoryview:
        return self._opened().read(self._starts[name] + offset, nbytes)

    def _close(self) -> None:
        self._forget()
        if self._file is not None:
            self._file.close()
            self._file = None
