"""Global generators and torch's threads around a call of user code, restored afterwards.

Only code that runs alone in its process can have the global generators to itself: synchronous work
inline, and work in a process. Threads and coroutines share them, so there only ``site.rng`` and
``site.torch_rng()`` promise reproducible bits.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np

from flare_async.jobs.site import Site

if TYPE_CHECKING:
    import types

__all__ = ["GlobalSeeds", "SingleTorchThread", "limit_torch_threads", "seeded"]


class GlobalSeeds:
    """Seeds the global generators for one training after the other; restores them at the end.

    The host's states are kept once, not around every call: keeping and restoring NumPy's alone
    takes 50 microseconds, which is more than many a simulated training. What the host draws from
    the global generators meanwhile comes from the last seed; afterwards its own streams go on
    where they were. torch is left alone until somebody has imported it, which takes seconds.
    """

    __slots__ = ("_restore", "_torch_kept")

    def __init__(self) -> None:
        self._restore: ExitStack | None = None
        self._torch_kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._restore is not None:
            self._restore.close()
        self._restore, self._torch_kept = None, False

    def seed(self, site: Site) -> None:
        """Seed Python, NumPy and torch from (seed, round, site)."""
        restore = self._restore or self._keep()
        for_python, for_numpy, for_torch = site.seed_sequence(2).generate_state(3, np.uint64)
        random.seed(int(for_python))
        np.random.seed(int(for_numpy) & 0xFFFFFFFF)
        torch = _loaded_torch()
        if torch is None:
            return
        if not self._torch_kept:
            self._torch_kept = True
            _keep_torch(torch, restore)
        _seed_torch(torch, int(for_torch))

    def _keep(self) -> ExitStack:
        self._restore = ExitStack()
        self._restore.callback(random.setstate, random.getstate())
        self._restore.callback(np.random.set_state, np.random.get_state())
        return self._restore


@contextmanager
def seeded(site: Site) -> Iterator[None]:
    """Seed the global generators for one call, and let torch use one thread."""
    undo = limit_torch_threads()
    try:
        with GlobalSeeds() as seeds:
            seeds.seed(site)
            yield
    finally:
        undo()


def _keep_torch(torch: types.ModuleType, restore: ExitStack) -> None:
    restore.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        restore.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())


def _seed_torch(torch: types.ModuleType, seed: int) -> None:
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    torch.default_generator.manual_seed(seed)


def limit_torch_threads() -> Callable[[], None]:
    """Let torch use one intra-op thread for what this thread calls; return what undoes it.

    One and two threads add up in another order, which changes the last bits of a model.
    """
    torch = _loaded_torch()
    before = 1 if torch is None else torch.get_num_threads()
    if torch is None or before == 1:
        return _nothing
    torch.set_num_threads(1)

    def undo() -> None:
        torch.set_num_threads(before)

    return undo


def _loaded_torch() -> types.ModuleType | None:
    torch = sys.modules.get("torch")
    # Another thread may be in the middle of importing it.
    return torch if hasattr(torch, "set_num_threads") else None


def _nothing() -> None:
    pass


class SingleTorchThread:
    """Hold torch at one thread while at least one of several interleaved coroutines is inside."""

    __slots__ = ("_holders", "_undo")

    def __init__(self) -> None:
        self._holders = 0
        self._undo: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        if self._holders == 0 and "torch" in sys.modules:
            self._undo = limit_torch_threads()
        self._holders += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._holders -= 1
        if self._holders == 0 and self._undo is not _nothing:
            self._undo()
            self._undo = _nothing
            self._undo = _nothing
