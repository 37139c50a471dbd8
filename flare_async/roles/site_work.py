"""What a site is asked and answers, and who does the work: the client's own words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol, runtime_checkable

from flare_async.hot_value import hot_value
from flare_async.roles.messages import Scalar
from flare_async.roles.peer_server import PeerServer
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.source import TensorSource
from flare_async.transfer.tensors import TensorSet

__all__ = ["ChoosesSink", "Desk", "ModelSink", "SiteResult", "SiteTask", "Worker"]


@hot_value(frozen=True, slots=True)
class SiteTask:
    """A task as a site's worker gets it; ``tensors`` are shared and must not be written to."""

    job: str
    task: str
    round_number: int
    total_rounds: int
    tensors: TensorSet
    meta: Mapping[str, Scalar] = field(default_factory=dict)


@hot_value(frozen=True, slots=True)
class SiteResult:
    """What a worker made of a task; the client owns ``tensors`` from now on.

    A receipt does not give them back: over ``memory`` the server may add this very memory after it.
    So a worker never writes to them again, and copies what it wants to go on with.

    ``received`` are the metrics of the model as it came, ``metrics`` those of the work.
    """

    tensors: TensorSet | TensorSource | None
    params_type: str
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    seconds: float = 0.0
    received: Mapping[str, float] = field(default_factory=dict)


class Worker(Protocol):
    """Does a site's work."""

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task; cancelled when the server revokes it. Raises TrainingFailed."""


class ModelSink(TensorSink, Protocol):
    """A sink whose tensors a worker can have."""

    @property
    def tensors(self) -> TensorSet:
        """The tensors, once they are whole. Raises TransferError."""


@runtime_checkable
class ChoosesSink(Protocol):
    """A worker that says where a model that is pulled goes, instead of this process's memory."""

    def sink(self, memory_bytes: int | None) -> ModelSink:
        """Return a new sink, which accepts at most so many bytes."""


class Desk(Protocol):
    """Does what concerns a site's peers: rounds with them, models that it keeps for them."""

    def worker(self, task: str, peers: PeerServer | None) -> Worker | None:
        """Return what works on the server's tasks of that name; None: the site's own worker."""

    def over(self, job: str) -> None:
        """Let go of what is kept for a job."""
