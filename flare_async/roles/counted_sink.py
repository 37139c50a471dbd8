"""A sink that counts what has come, so that a result that is lost on its way can be told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flare_async.transfer.arrivals import NO_ALIASES
from flare_async.transfer.sink import StoredSink, TensorSink, pressed_of, stored_of
from flare_async.transfer.spec import TensorSpec

__all__ = ["CountedSink", "counted"]


class CountedSink:
    """Passes everything on to a sink; ``got`` are the bytes that are in it.

    Every method does, and raises, what the sink's own does.
    """

    __slots__ = ("_pressed", "_sink", "got")

    def __init__(self, sink: TensorSink) -> None:
        self._sink = sink
        self._pressed = pressed_of(sink)
        self.got = 0

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Prepare for these tensors."""
        self._sink.begin(specs, aliases)

    def credit(self, nbytes: int) -> int:
        """Return how much may be under way; all of it where the sink never lacks memory."""
        return nbytes if self._pressed is None else self._pressed.credit(nbytes)

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory."""
        return self._sink.destination(name, offset, nbytes)

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Count what was written."""
        self._sink.landed(name, offset, nbytes)
        self.got += nbytes

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Write and count."""
        self._sink.write(name, offset, data)
        self.got += data.nbytes

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return what has landed."""
        return self._sink.read(name, offset, nbytes)

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Count no longer what is to come again."""
        self._sink.reject(name, offset, nbytes)
        self.got -= nbytes

    def adopt(self, name: str, view: memoryview) -> None:
        """Count a whole tensor."""
        self._sink.adopt(name, view)
        self.got += view.nbytes

    def finish(self) -> None:
        """End."""
        self._sink.finish()

    def discard(self) -> None:
        """End; what was counted stays."""
        self._sink.discard()


class _CountedStore(CountedSink):
    """The same for a sink whose end takes the disk's time."""

    __slots__ = ("_stored",)

    def __init__(self, sink: TensorSink, stored: StoredSink) -> None:
        super().__init__(sink)
        self._stored = stored

    def settle(self) -> None:
        """Wait for the disk."""
        self._stored.settle()


def counted(sink: TensorSink) -> CountedSink:
    """Return a sink that counts what goes into another one."""
    stored = stored_of(sink)
    return CountedSink(sink) if stored is None else _CountedStore(sink, stored)
