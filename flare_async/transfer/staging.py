"""Updates that wait, whole and verified or not yet, for their turn in the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from flare_async.errors import TransferError
from flare_async.net.zeros import is_zeros, zeros
from flare_async.transfer.arrivals import NO_ALIASES, Arrivals, SinkState
from flare_async.transfer.mean_look import Looks
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.spool import BUFFER
from flare_async.transfer.staged_place import Place, referenced
from flare_async.transfer.staging_area import StagingArea

__all__ = ["StagedUpdate", "StagingArea"]

SpecsCheck = Callable[[Sequence[TensorSpec]], None]
Lender = Callable[[str], memoryview | None]
_SHARE = 4  # which part of the usual is asked for while memory is short


class StagedUpdate:
    """One site's update as a sink while it arrives, and as a source once it is whole.

    Whether a tensor is in memory or in the spool is decided when its first bytes are asked for.
    Of a tensor in the spool at most a MiB is leased at a time, and of all of them 15. ``lend`` may
    have memory for a tensor that is not of the budget; ``taken`` gives it back with what landed.
    """

    __slots__ = ("_area", "_arrivals", "_check", "_lend", "_looks", "_places")

    def __init__(
        self,
        area: StagingArea,
        check: SpecsCheck | None = None,
        *,
        looks: Looks | None = None,
        lend: Lender | None = None,
    ) -> None:
        self._area = area
        self._check = check
        self._looks = looks
        self._lend = lend
        self._arrivals = Arrivals()
        self._places: dict[str, Place] = {}

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self._arrivals.specs

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names of tied tensors and the first name that has the same bytes."""
        return self._arrivals.aliases

    @property
    def whole(self) -> bool:
        """Whether every byte has landed and ``finish`` was called."""
        return self._arrivals.state is SinkState.FINISHED

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Prepare for these tensors.

        Raises:
            TransferError: the sink is in use.
            TensorFormatError: a name comes twice, or an alias does not match its first name.
            UpdateRefused: they are not the model's; nothing was prepared.
        """
        if self._check is not None:
            self._check(specs)
        self._arrivals.begin(specs, aliases)
        self._places = {s.name: Place(s.nbytes) for s in specs if s.name not in aliases}

    def credit(self, nbytes: int) -> int:
        """Return how much of ``nbytes`` may be under way: a quarter while memory is short."""
        return nbytes // _SHARE if self._area.pressed else nbytes

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for a range that has not landed, or for its beginning.

        Raises:
            TransferError: no such tensor, beyond its end, landed already, or not open.
        """
        self._arrivals.missing(name, offset, nbytes)
        place = self._settled(name)
        if place.view is not None:
            return place.view[offset : offset + nbytes]
        return place.leased(self._area.spool().buffers).room(offset, offset + nbytes)

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Take note that a range was written; spooled bytes go to the file.

        Raises:
            TransferError: no memory was asked for, beyond the end, landed already, or the spool
                cannot be written.
        """
        coverage = self._arrivals.missing(name, offset, nbytes)
        place = self._places[name]
        if place.extent is not None and nbytes:
            self._spill(name, place, offset, nbytes)
        elif nbytes and place.view is None:
            raise TransferError(f"tensor {name!r}: {nbytes} bytes landed nowhere")
        elif place.view is not None:
            self._see(name, offset, place.view[offset : offset + nbytes])
        coverage.add(offset, offset + nbytes)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Write a range that came in memory of its own, and take note of it.

        Raises:
            TransferError: as ``landed``.
        """
        coverage = self._arrivals.missing(name, offset, data.nbytes)
        place = self._settled(name, zero=is_zeros(data))
        if place.view is not None and not is_zeros(place.view):
            place.view[offset : offset + data.nbytes] = data
        elif place.extent is not None:
            place.leased(self._area.spool().buffers).revoke(offset, offset + data.nbytes)
            self._area.spool().write(place.extent + offset, data)
        self._see(name, offset, data)
        coverage.add(offset, offset + data.nbytes)

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return bytes that have landed, before the update is whole.

        Raises:
            TransferError: they have not landed, or the spool cannot be read.
        """
        self._arrivals.there(name, offset, nbytes)
        place = self._places[name]
        if place.view is not None:
            return place.view[offset : offset + nbytes].toreadonly()
        data = memoryview(bytearray(nbytes))
        if place.extent is not None:
            self._area.spool().read(place.extent + offset, data)
        return data

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget that a range has landed: its bytes were not those that were sent.

        Raises:
            TransferError: no such range, or the tensor was adopted.
        """
        coverage = self._arrivals.within(name, offset, nbytes)
        view = self._places[name].view
        if view is not None and view.readonly:
            raise TransferError(f"tensor {name!r}: was adopted, its memory is not ours")
        if self._looks is not None:
            self._looks.forget(name)
        coverage.remove(offset, offset + nbytes)

    def adopt(self, name: str, view: memoryview) -> None:
        """Take a whole tensor by reference.

        Raises:
            TransferError: no such tensor, of another size, or partly landed already.
        """
        coverage = self._arrivals.whole(name, view)
        place = self._places[name]
        self._vacate(place)
        place.view = referenced(view)
        self._area.referenced_bytes += view.nbytes
        coverage.add(0, coverage.size)

    def adopt_all(
        self,
        specs: Sequence[TensorSpec],
        aliases: Mapping[str, str],
        views: Mapping[str, memoryview],
    ) -> None:
        """Begin, take every tensor by reference and finish, in one go.

        Raises:
            FlareError: as ``begin`` and ``adopt``.
        """
        if self._check is not None:
            self._check(specs)
        self._arrivals.come_whole(specs, aliases, views)
        for name, view in views.items():
            self._places[name] = Place(view.nbytes, referenced(view))
            self._area.referenced_bytes += view.nbytes

    def finish(self) -> None:
        """End with every byte landed.

        Raises:
            TransferError: bytes are missing; the message names the first such tensor.
        """
        self._arrivals.finish()

    def discard(self) -> None:
        """Give memory and file space back; harmless at any time and more than once."""
        self._arrivals.state = SinkState.DISCARDED
        for place in self._places.values():
            self._vacate(place)
        self._places = {}

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield a tensor's bytes from ``start`` on; a chunk is valid until the next one.

        Raises:
            TransferError: the update is not whole, no such tensor, ``start`` is outside of it, or
                the spool cannot be read.
        """
        if not self.whole:
            self._arrivals.expect(SinkState.FINISHED, f"tensor {name!r}")
        place = self._places.get(self._arrivals.aliases.get(name, name))
        if place is None or not 0 <= start <= place.nbytes:
            raise TransferError(f"tensor {name!r}: no bytes from {start} on in this update")
        if (view := place.view) is not None:
            if start == 0 and place.nbytes <= BUFFER:
                return iter((view,) if place.nbytes else ())
            return (view[at : at + BUFFER] for at in range(start, place.nbytes, BUFFER))
        return self._spooled(place, start) if place.extent is not None else iter(())

    def largest(self, name: str) -> float | None:
        """Return the largest absolute value of a tensor, if it was looked at as it landed."""
        place = self._places.get(name)  # tied ones have none of their own
        return self._looks.of(name, place.nbytes) if place and self._looks is not None else None

    def taken(self, name: str) -> memoryview | None:
        """Return the lent memory of a tensor, to be overwritten; None where there was none.

        Raises:
            TransferError: the update is not whole.
        """
        self._arrivals.expect(SinkState.FINISHED, f"tensor {name!r}")
        place = self._places.get(name)
        return place.view if place is not None and place.lent else None

    def _see(self, name: str, offset: int, data: memoryview) -> None:
        if self._looks is not None:
            self._looks.see(name, offset, data)

    def _settled(self, name: str, *, zero: bool = False) -> Place:
        place = self._places[name]
        if place.view is not None and is_zeros(place.view) and not zero:
            place.view = np.zeros(place.nbytes, np.uint8).data  # something else comes now
        if place.view is not None or place.extent is not None:
            return place
        if zero:
            return self._zero(place)
        # What is tied is read again under its other names, when this memory is a sum already.
        lent = None if self._lend is None or self.aliases else self._lend(name)
        if lent is not None:
            place.view, place.lent = lent, True
        elif self._area.reserve(place.nbytes):
            place.reserved = True
            place.view = np.empty(place.nbytes, np.uint8).data
        else:
            place.extent = self._area.spool().allocate(place.nbytes)
            self._area.spilled_bytes += place.nbytes
        return place

    def _zero(self, place: Place) -> Place:
        """Let a tensor be of the zero page, and count it as any other."""
        place.reserved = self._area.reserve(place.nbytes)
        self._area.spilled_bytes += 0 if place.reserved else place.nbytes
        place.view = zeros(place.nbytes)
        return place

    def _vacate(self, place: Place) -> None:
        if place.reserved:
            self._area.release(place.nbytes)
        if place.extent is not None:
            self._area.spool().free(place.extent, place.nbytes)
        if place.leases is not None:
            place.leases.clear()
        place.view, place.extent, place.leases = None, None, None
        place.reserved = place.lent = False

    def _spill(self, name: str, place: Place, offset: int, nbytes: int) -> None:
        end = offset + nbytes
        leases = place.leased(self._area.spool().buffers)
        lease = leases.of(offset, end)
        if lease is None or place.extent is None:
            raise TransferError(f"tensor {name!r}: {nbytes} bytes landed nowhere")
        data = lease.part(offset, end)
        self._area.spool().write(place.extent + offset, data)
        self._see(name, offset, data)
        leases.landed(lease, nbytes)

    def _spooled(self, place: Place, start: int) -> Iterator[memoryview]:
        spool = self._area.spool()
        buffer = spool.take_buffer(BUFFER)
        try:
            for at in range(start, place.nbytes, BUFFER):
                if place.extent is None:
                    raise TransferError("the update was discarded while it was read")
                chunk = buffer[: min(BUFFER, place.nbytes - at)]
                spool.read(place.extent + at, chunk)
                yield chunk
        finally:
            spool.give_buffer(buffer)
