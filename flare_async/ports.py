"""The five ports through which a role touches the outside.

On the real ports a role is production; on the simulated ones (``flare_async.testing``) the same
code is a deterministic simulation. Nothing below ``sim`` reads a clock, draws a random number,
opens a connection, writes a file or starts training other than through these.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Clock", "Network", "Random", "Spawner", "Store", "Timer"]

LinkT_co = TypeVar("LinkT_co", covariant=True)
ListenerT_co = TypeVar("ListenerT_co", covariant=True)
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Timer(Protocol):
    """What ``Clock.call_at`` returns."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has happened."""


@runtime_checkable
class Clock(Protocol):
    """Monotonic seconds, and one way to be called later."""

    def now(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the loop at ``when`` (seconds of this clock)."""


@runtime_checkable
class Random(Protocol):
    """Named streams of random numbers, so that one more draw in one place changes no other."""

    def stream(self, name: str) -> random.Random:
        """Return the generator of that name; the same object at every call."""

    def once(self, name: str) -> random.Random:
        """Return a new generator of that name, for a few draws; it is not kept."""

    def token(self, nbytes: int) -> bytes:
        """Return unpredictable bytes (in simulation: reproducible ones)."""

    def buggify(self, point: str) -> bool:
        """Return whether a simulation wants what is legal and unlikely to happen here; else False.

        ``point`` names the place. Places are where objects are made, never where frames pass.
        """


class Network(Protocol[LinkT_co, ListenerT_co]):
    """The transport port: connections to and from addresses such as ``tcp://host:port``."""

    async def connect(self, address: str) -> LinkT_co:
        """Connect; bounded by ``handshake_timeout``. Raises ConnectFailed."""

    async def listen(self, address: str) -> ListenerT_co:
        """Listen; the listener's ``address`` has the real port. Raises ConnectFailed."""


class Store(Protocol):
    """Files of one run, by relative name. Names never come from a peer."""

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name`` atomically; on return it is durable. Raises WorkspaceError."""

    async def append(self, name: str, data: bytes) -> None:
        """Append to ``name`` and flush it to the system. Raises WorkspaceError."""

    async def read(self, name: str) -> bytes:
        """Return the whole of ``name``. Raises WorkspaceError."""


class Spawner(Protocol[TaskT_contra, ResultT_co]):
    """Runs user code somewhere: inline, in a thread, in a process."""

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""

    def run(self, task: TaskT_contra) -> Awaitable[ResultT_co]:
        """Run one task; cancelling it frees the slot even where the code cannot be stopped."""


if TYPE_CHECKING:
    AnyNetwork = Network[Any, Any]
