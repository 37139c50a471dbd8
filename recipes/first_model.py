"""A recipe's first model, which need not be in memory while a run goes on with a later one.

A recipe can be run again, exported and copied, always from the same first model: of what the user
gave, a module may have been trained meanwhile, a class may begin with other random numbers, a file
may be another. So a large private copy is written into a nameless file in the first round, let go
in the second, and read from there when somebody asks for it again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import numpy as np
import structlog

from flare_async.errors import TransferError
from flare_async.jobs.memory import LARGE_MODEL
from flare_async.jobs.threads import run_to_end
from flare_async.transfer.capture import Array
from flare_async.transfer.spool import Spool, file_system_of
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort

__all__ = ["Departure", "FirstArrays", "FirstModel"]

MEMORY: Final = frozenset({"ramfs", "tmpfs"})  # whose files take the memory that they should free

log = structlog.get_logger()


class FirstModel:
    """A model in memory, in a file, or in both."""

    def __init__(self, tensors: TensorSet) -> None:
        self._tensors: TensorSet | None = tensors
        self._file: ModelFile | None = None

    def holds(self, model: TensorSet) -> bool:
        """Return whether that is the one that is in memory."""
        return self._tensors is model

    def read(self) -> TensorSet:
        """Return the model, and keep it in memory from now on. Raises TransferError."""
        found = self._tensors
        if found is None and self._file is not None:
            found = self._tensors = self._file.read()
        assert found is not None  # memory is let go of for a file only
        return found

    def write(self, folder: Path) -> None:
        """Write it into a file of the disk that ``folder`` is on, once. Raises TransferError."""
        if self._file is None:
            self._file = ModelFile(self.read(), folder)

    def let_go(self) -> bool:
        """Keep it in its file only; False where it has none."""
        if self._file is None:
            return False
        self._tensors = None
        return True


class ModelFile:
    """A model in a file without a name, which ends with this object.

    Raises:
        TransferError: it cannot be written.
    """

    def __init__(self, model: TensorSet, folder: Path) -> None:
        self._specs, self._aliases = model.specs, model.aliases
        self._spool = Spool(folder)
        self._starts: dict[str, int] = {}
        weakref.finalize(self, self._spool.close)
        for name, view in model.items():
            if name not in self._aliases:
                self._starts[name] = self._spool.allocate(view.nbytes)
                self._spool.write(self._starts[name], view)

    def read(self) -> TensorSet:
        """Return the model. Raises TransferError."""
        views: dict[str, memoryview] = {}
        for spec in self._specs:
            if spec.name in self._starts:
                views[spec.name] = np.empty(spec.nbytes, np.uint8).data
                self._spool.read(self._starts[spec.name], views[spec.name])
        return TensorSet.from_views(self._specs, views, self._aliases)


class FirstArrays(Mapping[str, Array]):
    """The arrays of a first model, in the place of those that the user gave."""

    def __init__(self, first: FirstModel) -> None:
        self._first = first

    def __getitem__(self, name: str) -> Array:
        return self._first.read().numpy()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first.read())

    def __len__(self) -> int:
        return len(self._first.read())


class Departure:
    """How one run's first model leaves memory."""

    def __init__(self, first: FirstModel, cohort: JobCohort) -> None:
        self._first = first
        self._cohort = cohort
        self._writing: anyio.Event | None = None

    def begin(self, model: TensorSet) -> None:
        """Write the first model in the background, if that is ``model`` and a large one."""
        folder = self._cohort.run.folder
        large = model.nbytes >= LARGE_MODEL and self._first.holds(model)
        if large and file_system_of(folder) not in MEMORY:
            self._writing = anyio.Event()
            tasks = self._cohort.server.context.tasks
            tasks.start_soon(self._write, self._writing, name="put the first model away")

    async def end(self) -> bool:
        """Return, once, that it may leave. Waits for its file, the work of a thread."""
        if self._writing is None:
            return False
        await self._writing.wait()
        self._writing = None
        return True

    async def _write(self, done: anyio.Event) -> None:
        try:
            await run_to_end(lambda: self._first.write(self._cohort.run.folder))
        except TransferError as exc:
            log.warning("first_model_stays_in_memory", problem=str(exc))
        finally:
            done.set()
