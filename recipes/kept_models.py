"""The last model of each site, kept as files where updates arrive, for a later evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flare_async.errors import LocalProtocolError, TransferError
from flare_async.jobs.companions import RESERVED
from flare_async.model import ParamsType
from flare_async.roles.setting import RoundTask
from flare_async.transfer.file_sink import FileSink
from flare_async.transfer.kernel import Addend, accumulate, narrow, new_scratch, values_nbytes
from flare_async.transfer.reducer import Reducer, SteppedReducer
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.sums import dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["KeptModels"]

SUFFIX: Final = ".safetensors"


class KeptModels:
    """Writes what sites send into ``folder``, a file a site; the newest one stays.

    An update that is refused afterwards leaves the former file as it is. Companions of the model
    are not part of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Path] = {}

    def tee(self, task: RoundTask, model: TensorSet, reducer: Reducer) -> Reducer:
        """Return a reducer that does what ``reducer`` does, and keeps what it admits."""
        return reducer if not task.wants_update else _Tee(self, model, reducer)

    def path(self, site: str) -> Path:
        """Return where a site's model is."""
        return self.folder / f"{site}{SUFFIX}"


class _Tee:
    def __init__(self, kept: KeptModels, model: TensorSet, inner: Reducer) -> None:
        self._kept = kept
        self._model = model
        self._inner = inner
        self._staged: dict[str, tuple[StagedUpdate, ParamsType]] = {}

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> TensorSink:
        """Return the inner reducer's sink."""
        sink = self._inner.stage(site, weight, kind)
        if not isinstance(sink, StagedUpdate):
            raise LocalProtocolError(f"{site}: an update that is not held cannot be kept")
        self._staged[site] = sink, kind or ParamsType.FULL
        return sink

    def commit(self, site: str) -> None:
        """Keep and admit an update; raises as the inner reducer does."""
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Write an update into its file, then admit it, yielding after chunks."""
        staged, kind = self._staged[site]
        if not staged.whole:
            raise TransferError(f"{site}: its update is not whole")
        file = FileSink(self._kept.path(site))
        try:
            yield from writing(file, self._model, staged, kind)
            if isinstance(self._inner, SteppedReducer):
                yield from self._inner.admitting(site)
            else:
                self._inner.commit(site)
            file.settle()
            file.finish()
        except BaseException:
            file.discard()
            raise
        del self._staged[site]
        self._kept.files[site] = self._kept.path(site)

    def summing(self) -> Iterator[None]:
        """Add what the inner reducer can add."""
        return self._inner.summing() if isinstance(self._inner, SteppedReducer) else iter(())

    def discard(self, site: str) -> None:
        """Give a site up."""
        self._staged.pop(site, None)
        self._inner.discard(site)

    def finish(self) -> TensorSet:
        """Return what the inner reducer makes of the updates."""
        return self._inner.finish()


def writing(
    file: FileSink, model: TensorSet, update: StagedUpdate, kind: ParamsType
) -> Iterator[None]:
    """Write the model that an update stands for, yielding after chunks.

    Raises:
        FlareError: it cannot be read or written.
    """
    specs, aliases = own(model.specs), model.aliases
    file.begin(specs, {name: first for name, first in aliases.items() if name in model})
    given = {spec.name for spec in update.specs}
    for spec in specs:
        if spec.name in aliases:
            continue
        at = 0
        name = update.aliases.get(spec.name, spec.name)
        chunks = update.chunks(name) if spec.name in given else iter([model[spec.name]])
        for chunk in chunks:
            whole = chunk
            if kind is ParamsType.DIFF and spec.name in given:
                whole = added(spec, model[spec.name][at : at + chunk.nbytes], chunk)
            file.write(spec.name, at, whole)
            at += chunk.nbytes
            yield


def own(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the tensors that are the model's own."""
    return tuple(spec for spec in specs if not spec.name.startswith(RESERVED))


def added(spec: TensorSpec, old: memoryview, change: memoryview) -> memoryview:
    """Return a chunk of a model plus its difference, in the model's type."""
    acc = np.zeros(old.nbytes // values_nbytes(spec.dtype), np.float64)
    scratch = new_scratch("float64")
    accumulate(acc, Addend(spec.dtype, old, 1.0), scratch)
    accumulate(acc, Addend(dtype_as_added(spec, ParamsType.DIFF), change, 1.0), scratch)
    return narrow(spec.dtype, acc).view(np.uint8).data
