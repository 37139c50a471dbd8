"""A sink that looks at an update and keeps nothing of it but digests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import xxhash

from flare_async.errors import TransferError, UpdateRefused
from flare_async.limits import MIB
from flare_async.transfer.arrivals import NO_ALIASES, Arrivals, SinkState
from flare_async.transfer.buffers import BufferPool, Leases
from flare_async.transfer.kernel import is_always_finite, is_summable, not_finite, values_nbytes
from flare_async.transfer.norm import NormLimit
from flare_async.transfer.spec import TensorSpec

__all__ = ["CheckedSink"]

_NOTHING: Final = memoryview(b"")


@dataclass(slots=True)
class _Look:
    """One tensor while it passes: how far it has come, its digest, and a value cut in two."""

    spec: TensorSpec
    leases: Leases
    at: int = 0
    digest: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    cut: bytes = b""
    squares: float = 0.0


class CheckedSink:
    """Takes a site's update a first time: each tensor in order, whole or a piece at a time.

    Names, types and shapes are checked by ``check``, values must be finite and no longer than
    ``norm`` unless the tensor is ``ignored``. ``digests`` tells afterwards what has passed, so that
    it can be known again.
    """

    def __init__(
        self,
        site: str,
        pool: BufferPool,
        check: Callable[[Sequence[TensorSpec]], None],
        ignored: frozenset[str] = frozenset(),
        *,
        norm: NormLimit | None = None,
    ) -> None:
        self._norm = norm
        self._site = site
        self._pool = pool
        self._check = check
        self._ignored = ignored
        self._arrivals = Arrivals()
        self._looks: dict[str, _Look] = {}

    @property
    def whole(self) -> bool:
        """Whether every byte has passed and ``finish`` was called."""
        return self._arrivals.state is SinkState.FINISHED

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self._arrivals.specs

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names of tied tensors and the first name that has the same bytes."""
        return self._arrivals.aliases

    @property
    def digests(self) -> dict[str, bytes]:
        """The xxh3 of each tensor that has bytes of its own."""
        return {name: look.digest.digest() for name, look in self._looks.items()}

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Prepare for these tensors.

        Raises:
            TransferError: the sink is in use.
            TensorFormatError: a name comes twice, or an alias does not match its first name.
            UpdateRefused: they are not the model's; nothing was prepared.
        """
        self._check(specs)
        self._arrivals.begin(specs, aliases)
        for spec in specs:
            if spec.name not in aliases:
                self._looks[spec.name] = _Look(spec, Leases(self._pool))

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return memory for a range that has not passed, or for its beginning.

        Raises:
            TransferError: no such tensor, beyond its end, passed already, or not open.
        """
        self._arrivals.missing(name, offset, nbytes)
        return self._looks[name].leases.room(offset, offset + nbytes)

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Look at the next range of a tensor.

        Raises:
            TransferError: no memory was asked for, or it is not the next range.
            UpdateRefused: a value is not finite.
        """
        self._arrivals.missing(name, offset, nbytes)
        look, end = self._looks[name], offset + nbytes
        lease = look.leases.of(offset, end)
        if lease is None and nbytes:
            raise TransferError(f"tensor {name!r}: {nbytes} bytes landed nowhere")
        if lease is not None:
            self._pass(look, offset, lease.part(offset, end))
            look.leases.landed(lease, nbytes)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Look at the next range of a tensor, which has memory of its own.

        Raises:
            TransferError: it is not the next range.
            UpdateRefused: a value is not finite.
        """
        self._arrivals.missing(name, offset, data.nbytes)
        look = self._looks[name]
        look.leases.revoke(offset, offset + data.nbytes)
        self._pass(look, offset, data)

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return nothing: it was not kept, so a damaged tensor is asked for again whole.

        Raises:
            TransferError: no such range has passed.
        """
        self._arrivals.there(name, offset, nbytes)
        return _NOTHING

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget a tensor, which is to pass again from its start.

        Raises:
            TransferError: no such tensor, or only a part of it.
        """
        coverage = self._arrivals.within(name, offset, nbytes)
        if nbytes != coverage.size:
            raise TransferError(f"tensor {name!r}: cannot pass again from {offset} on")
        coverage.remove(0, coverage.size)
        self._looks[name] = _Look(self._looks[name].spec, Leases(self._pool))

    def adopt(self, name: str, view: memoryview) -> None:
        """Look at a whole tensor.

        Raises:
            TransferError: no such tensor, of another size, or partly passed already.
            UpdateRefused: a value is not finite.
        """
        self._arrivals.whole(name, view)
        data = view.cast("B") if view.nbytes else _NOTHING
        for at in range(0, data.nbytes, MIB):
            self._pass(self._looks[name], at, data[at : at + MIB])

    def finish(self) -> None:
        """End with every byte passed.

        Raises:
            TransferError: bytes are missing; the message names the first such tensor.
            UpdateRefused: a tensor is longer than allowed.
        """
        self._arrivals.check_whole()
        for name, look in self._looks.items():
            if self._norm is not None:
                self._norm.check(self._site, name, look.squares)
        self._arrivals.finish()

    def discard(self) -> None:
        """End; harmless at any time and more than once."""
        self._arrivals.state = SinkState.DISCARDED
        for look in self._looks.values():
            look.leases.clear()

    def _pass(self, look: _Look, offset: int, data: memoryview) -> None:
        name = look.spec.name
        if offset != look.at:
            raise TransferError(f"tensor {name!r}: bytes {offset} come, {look.at} are the next")
        look.digest.update(data)
        self._look_at(look, data)
        look.at += data.nbytes
        self._arrivals.missing(name, offset, data.nbytes).add(offset, look.at)

    def _look_at(self, look: _Look, data: memoryview) -> None:
        spec = look.spec
        finite = is_always_finite(spec.dtype)
        if spec.name in self._ignored or (finite and self._norm is None):
            return
        values = memoryview(look.cut + data) if look.cut else data
        whole = values.nbytes - values.nbytes % values_nbytes(spec.dtype)
        look.cut = bytes(values[whole:])
        if not whole:
            return
        if not finite and not_finite(spec.dtype, values[:whole]):
            problem = f"a value in bytes {look.at} to {look.at + data.nbytes} is not finite"
            raise UpdateRefused(self._site, problem, spec.name)
        if self._norm is not None and is_summable(spec.dtype):
            look.squares += self._norm.squares(spec, values[:whole])
