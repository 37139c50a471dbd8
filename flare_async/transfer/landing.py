"""Where the bytes of one tensor, or of a range of it, go while they arrive."""

from __future__ import annotations

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.net.inflow import Chunk
from flare_async.transfer.digest import TensorHasher
from flare_async.transfer.sink import TensorSink

__all__ = ["Adoption", "Landing"]


class Landing:
    """Leads a range into a sink, a piece at a time, in order; ``have`` is how far it has come.

    With a ``hasher`` each piece is hashed while it is still in the processor's cache, which is
    most of the cost of hashing. Without memory to be had, bytes come in memory of their own.
    """

    __slots__ = ("_base", "_hasher", "_name", "_pieces", "_sink", "have", "stop")

    def __init__(
        self,
        sink: TensorSink,
        name: str,
        start: int,
        stop: int,
        hasher: TensorHasher | None = None,
    ) -> None:
        self._sink = sink
        self._name = name
        self._hasher = hasher
        self._base = self.have = start
        self.stop = stop
        self._pieces: list[tuple[int, memoryview]] = []  # asked for and not landed, in order

    def begin(self) -> None:
        """Expect a new stream, which brings what is missing."""
        self._base = self.have
        self._pieces.clear()

    def room(self, offset: int, length: int) -> memoryview | None:
        """Return memory for the next bytes, or for the first of them; None where there is none.

        Raises:
            FlareError: the sink refuses them.
        """
        at = self._base + offset
        if at + length > self.stop:
            return None  # the bytes come to ``take``, which blames the peer
        if self._pieces:
            start, view = self._pieces[-1]
            if start <= at < start + len(view):
                return view[at - start : at - start + length]
            if at < start:  # a new link sends them again, cut differently
                self._pieces.clear()
        view = self._sink.destination(self._name, at, length)
        if view:
            self._pieces.append((at, view))
        return view or None

    def landed(self, offset: int, length: int) -> None:
        """Hash and hand on what was written into the memory of ``room``.

        Raises:
            FlareError: the sink cannot keep it.
        """
        while length:
            if not self._pieces:
                raise LocalProtocolError(f"tensor {self._name!r}: {length} bytes landed nowhere")
            start, view = self._pieces.pop(0)
            part, rest = view[:length], view[length:]
            if self._hasher is not None:
                self._hasher.update(part)
            self._sink.landed(self._name, self.have, len(part))
            self.have += len(part)
            length -= len(part)
            if rest:
                self._pieces.insert(0, (start + len(part), rest))

    def take(self, offset: int, payload: Chunk) -> None:
        """Hash and hand on bytes that arrived in memory of their own.

        Raises:
            RemoteProtocolError: more bytes came than were asked for.
            FlareError: the sink cannot keep them.
        """
        self._pieces.clear()
        data = memoryview(payload)
        check_end(self._name, self.have + data.nbytes, self.stop)
        if self._hasher is not None:
            self._hasher.update(data)
        self._sink.write(self._name, self.have, data)
        self.have += len(data)


class Adoption:
    """Takes a tensor over a memory link: whole by reference, or in the pieces that come.

    Nothing is hashed: what was never copied needs no digest.
    """

    __slots__ = ("_name", "_sink", "have", "stop")

    def __init__(self, sink: TensorSink, name: str, stop: int) -> None:
        self._sink = sink
        self._name = name
        self.have = 0
        self.stop = stop

    def begin(self) -> None:
        """Expect a new stream, which brings what is missing."""

    def room(self, offset: int, length: int) -> memoryview | None:
        """Return nothing: what comes has memory."""

    def landed(self, offset: int, length: int) -> None:
        """Take note of nothing: no memory was given."""

    def take(self, offset: int, payload: Chunk) -> None:
        """Adopt a payload that is the whole tensor; write down any other.

        Raises:
            RemoteProtocolError: more bytes came than were asked for.
            FlareError: the sink cannot keep it.
        """
        data = memoryview(payload)
        check_end(self._name, self.have + data.nbytes, self.stop)
        if len(data) == self.stop and not self.have:
            self._sink.adopt(self._name, data)
        else:
            self._sink.write(self._name, self.have, data)
        self.have += len(data)


def check_end(name: str, end: int, stop: int) -> None:
    """Refuse bytes beyond what was asked for. Raises RemoteProtocolError."""
    if end > stop:
        raise RemoteProtocolError(
            "too_long", f"tensor {name!r}: bytes up to {end}, {stop} were asked"
        )
