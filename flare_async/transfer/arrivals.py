"""The book-keeping that every sink needs: its state, and which bytes have landed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Final

from flare_async.errors import TransferError
from flare_async.transfer.coverage import Coverage
from flare_async.transfer.spec import TensorSpec, check_layout, check_view

__all__ = ["NO_ALIASES", "Arrivals", "SinkState"]

NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})


class SinkState(Enum):
    """Where a sink stands; the last two are final."""

    NEW = "new"
    OPEN = "open"
    FINISHED = "finished"
    DISCARDED = "discarded"


class Arrivals:
    """Which tensors a sink expects and what of them has landed."""

    __slots__ = ("_coverage", "aliases", "specs", "state")

    def __init__(self) -> None:
        self.state = SinkState.NEW
        self.specs: tuple[TensorSpec, ...] = ()
        self.aliases: Mapping[str, str] = NO_ALIASES
        self._coverage: dict[str, Coverage] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that have bytes of their own."""
        return tuple(self._coverage)

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> None:
        """Expect these tensors.

        Raises:
            TransferError: something is expected already.
            TensorFormatError: a name comes twice, or an alias does not match its first name.
        """
        self.expect(SinkState.NEW, "begin")
        check_layout(specs, aliases)
        self.specs = tuple(specs)
        self.aliases = MappingProxyType(dict(aliases)) if aliases else NO_ALIASES
        self._coverage = {s.name: Coverage(s.nbytes) for s in specs if s.name not in aliases}
        self.state = SinkState.OPEN

    def come_whole(
        self,
        specs: Sequence[TensorSpec],
        aliases: Mapping[str, str],
        views: Mapping[str, memoryview],
    ) -> None:
        """Expect these tensors and end with them: ``views`` are all that have bytes of their own.

        Raises:
            FlareError: as ``begin``, or a view is missing, of another size or not contiguous.
        """
        self.expect(SinkState.NEW, "begin")
        check_layout(specs, aliases)
        for spec in specs:
            if spec.name not in aliases:
                check_view(spec, views.get(spec.name))
        self.specs = tuple(specs)
        self.aliases = MappingProxyType(dict(aliases)) if aliases else NO_ALIASES
        self.state = SinkState.FINISHED

    def expect(self, state: SinkState, action: str) -> None:
        """Check the state.

        Raises:
            TransferError: it is another one.
        """
        if self.state is not state:
            raise TransferError(f"{action}: the sink is {self.state.value}, not {state.value}")

    def missing(self, name: str, offset: int, nbytes: int) -> Coverage:
        """Return the coverage of a tensor of which this range has not landed.

        Raises:
            TransferError: no such tensor, beyond its end, landed already, or not open.
        """
        coverage = self.within(name, offset, nbytes)
        end = offset + nbytes
        if coverage.overlaps(offset, end):
            raise TransferError(f"tensor {name!r}: bytes {offset} to {end} landed already")
        return coverage

    def within(self, name: str, offset: int, nbytes: int) -> Coverage:
        """Return the coverage of a tensor that has this range, landed or not.

        Raises:
            TransferError: no such tensor, beyond its end, or not open.
        """
        if self.state is not SinkState.OPEN:
            self.expect(SinkState.OPEN, f"tensor {name!r}")
        coverage = self._coverage.get(name)
        if coverage is None:
            raise TransferError(f"tensor {name!r}: not expected here")
        if not coverage.within(offset, offset + nbytes):
            raise TransferError(
                f"tensor {name!r}: bytes {offset} to {offset + nbytes} lie beyond its "
                f"{coverage.size}"
            )
        return coverage

    def there(self, name: str, offset: int, nbytes: int) -> None:
        """Check that every byte of a range has landed.

        Raises:
            TransferError: no such tensor, beyond its end, not landed, or not open.
        """
        coverage = self.within(name, offset, nbytes)
        if not coverage.covers(offset, offset + nbytes):
            raise TransferError(
                f"tensor {name!r}: bytes {offset} to {offset + nbytes} have not landed"
            )

    def whole(self, name: str, view: memoryview) -> Coverage:
        """Return the coverage of a tensor that ``view`` is to become, whole.

        Raises:
            TransferError: no such tensor, of another size, or partly landed already.
        """
        coverage = self.missing(name, 0, view.nbytes)
        if view.nbytes != coverage.size or not view.c_contiguous:
            raise TransferError(f"tensor {name!r}: {view.nbytes} of {coverage.size} bytes adopted")
        return coverage

    def finish(self) -> None:
        """End with every byte landed.

        Raises:
            TransferError: bytes are missing; the message names the first such tensor.
        """
        self.check_whole()
        self.state = SinkState.FINISHED

    def check_whole(self) -> None:
        """Check that every byte has landed.

        Raises:
            TransferError: bytes are missing; the message names the first such tensor.
        """
        self.expect(SinkState.OPEN, "finish")
        for name, coverage in self._coverage.items():
            if not coverage.complete:
                raise TransferError(
                    f"tensor {name!r}: {coverage.covered} of {coverage.size} bytes landed"
                )
