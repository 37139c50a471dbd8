"""A file without a name until it is whole, so that nothing half-written is ever found."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from flare_async.errors import TransferError
from flare_async.transfer.spool import read_at, write_all

__all__ = ["NewFile"]

_CLOSED: Final = -1
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC
_MODE: Final = 0o666  # less the process's mask, as for any new file


class NewFile:
    """Is written at any offset, and then put in the place of ``path``.

    Where the system knows nameless files, one that is not finished goes with its process, whatever
    ends it. Elsewhere it has a name of its own beside ``path``, which ``close`` removes. Who may
    read and write the file that it replaces may do so afterwards, and nobody else; where a link
    was, a file is, and what the link named is left alone.

    Raises:
        TransferError: the system refuses to make it, or ``path`` is a folder.
    """

    __slots__ = ("_file", "_name", "path", "placed")

    def __init__(self, path: Path, nbytes: int) -> None:
        self.path = path
        self.placed = False
        self._name: Path | None = None
        self._file = _CLOSED
        try:
            _refuse_folder(path)
            self._file = self._open()
            os.ftruncate(self._file, nbytes)
        except (OSError, OverflowError) as exc:
            self.close()
            raise TransferError(f"{path}: cannot be made: {exc}") from exc

    def write(self, start: int, data: memoryview) -> None:
        """Write all of ``data``.

        Raises:
            TransferError: the system refuses, for instance because the disk is full.
        """
        try:
            write_all(self._file, data, start)
        except OSError as exc:
            raise TransferError(f"{self.path}: cannot be written: {exc}") from exc

    def read(self, start: int, nbytes: int) -> memoryview:
        """Return bytes that were written.

        Raises:
            TransferError: the system refuses, or somebody else has cut the file off.
        """
        data = memoryview(bytearray(nbytes))
        done = 0
        try:
            while done < nbytes:
                count = read_at(self._file, data[done:], start + done)
                if not count:
                    raise TransferError(f"{self.path}: ends {nbytes - done} bytes too early")
                done += count
        except OSError as exc:
            raise TransferError(f"{self.path}: cannot be read: {exc}") from exc
        return data

    def place(self) -> None:
        """Wait until the disk has everything, then take the place of ``path``; takes its time.

        Raises:
            TransferError: the system refuses.
        """
        try:
            self._keep_mode()
            os.fsync(self._file)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if self._name is None:
                    self._name = self._link(folder)
                self._name.replace(self.path)
                self._name = None
                self.placed = True
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            raise TransferError(f"{self.path}: cannot be written out: {exc}") from exc

    def close(self) -> None:
        """Close the file, and remove it unless it is in its place; harmless more than once."""
        file, self._file = self._file, _CLOSED
        if file != _CLOSED:
            os.close(file)
        name, self._name = self._name, None
        if name is not None:
            name.unlink(missing_ok=True)

    def _open(self) -> int:
        nameless = getattr(os, "O_TMPFILE", 0)
        if nameless:
            try:
                return os.open(self.path.parent, _FLAGS | nameless, _MODE)
            except OSError:  # a file system that knows none, or a folder that cannot be used
                pass
        name = self._unused()
        file = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
        self._name = name
        return file

    def _link(self, folder: int) -> Path:
        # A link cannot take the place of a file: it gets a name first, and then that of ``path``.
        name = self._unused()
        os.link(f"/proc/self/fd/{self._file}", name.name, dst_dir_fd=folder, follow_symlinks=True)
        return name

    def _keep_mode(self) -> None:
        try:
            old = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        new = os.fstat(self._file).st_mode
        if stat.S_ISREG(old) and (old ^ new) & 0o777:  # not every file system knows modes
            os.fchmod(self._file, old & 0o777)

    def _unused(self) -> Path:
        # Not made of the file's own name: that may be as long as names can be.
        return self.path.with_name(f".flare-{os.getpid()}-{id(self):x}.part")


def _refuse_folder(path: Path) -> None:
    # Now, and not when all has been transferred. Opened, because that tells without following on.
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    os.close(folder)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
