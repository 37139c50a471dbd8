"""What server and client say to each other on a task's channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from flare_async.errors import (
    TrainerExited,
    TrainerIdle,
    TrainerNoResult,
    TrainerOutOfMemory,
    TrainerSignalled,
    TrainingFailed,
)
from flare_async.hot_value import hot_value
from flare_async.limits import Limits
from flare_async.transfer.pull import TensorRef
from flare_async.wire.schema import Schema

__all__ = [
    "FAILURES",
    "OFFER_SCHEMA",
    "TASK_SCHEMA",
    "TASK_TOPIC",
    "OfferReader",
    "Receipt",
    "Scalar",
    "TaskFailed",
    "TaskMessage",
    "TaskOffer",
    "TaskResult",
]

TASK_TOPIC = "task"
Scalar: TypeAlias = str | int | float | bool | None

RECEIVED = "received"
COMMITTED = "committed"
REFUSED = "refused"

_KINDS = (TrainerExited, TrainerIdle, TrainerNoResult, TrainerOutOfMemory, TrainerSignalled)
FAILURES: Final[Mapping[str, type[TrainingFailed]]] = {kind.code: kind for kind in _KINDS}


@hot_value(frozen=True, slots=True)
class TaskOffer:
    """A task and the lease of it; travels in the header of the channel's open.

    ``remaining`` is how many seconds the round may still take, None without a deadline.
    ``keep_until`` is the receipt after which the client may let go of its update; it still writes
    nothing over it, which may be added later from where it is. ``carried`` is the digest
    of the model's tensors where they follow on the channel, None where they are to be pulled; so
    many bytes as ``takes`` says may follow the result.
    """

    job: str
    task: str
    round_number: int
    total_rounds: int
    attempt: int
    epoch: int
    model: TensorRef
    remaining: float | None = None
    keep_until: str = COMMITTED
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    carried: bytes | None = None
    takes: int = 0


@hot_value(frozen=True, slots=True)
class TaskResult:
    """The work is done; ``update`` is None where only metrics were asked for.

    ``received`` are the metrics of the model that the site received, ``metrics`` those of its work.
    ``logs`` says that the site has records to tell, as it does in a failure. ``carried`` is the
    digest of the update's tensors where they follow.
    """

    update: TensorRef | None
    params_type: str
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    seconds: float
    received: Mapping[str, float] = field(default_factory=dict)
    logs: bool = False
    carried: bytes | None = None


@hot_value(frozen=True, slots=True)
class TaskFailed:
    """The work failed; ``details`` is the end of a traceback for the server's log.

    ``code`` is that of the site's error; what is not in ``FAILURES`` is a ``TrainingFailed`` here.
    """

    problem: str
    details: str = ""
    logs: bool = False
    code: str = ""


@hot_value(frozen=True, slots=True)
class Receipt:
    """What became of a result: ``received``, ``committed`` or ``refused``."""

    state: str
    reason: str = ""


TaskMessage: TypeAlias = TaskResult | TaskFailed | Receipt
OFFER_SCHEMA: Schema[TaskOffer] = Schema((1, TaskOffer))


class OfferReader:
    """Reads offers; the sites of one process get the same one, which is decoded once."""

    __slots__ = ("_header", "_offer")

    def __init__(self) -> None:
        self._header = b""
        self._offer: TaskOffer | None = None

    def read(self, header: bytes, limits: Limits) -> TaskOffer:
        """Return the offer in the header of a task's channel; it is shared and cannot be changed.

        Raises:
            RemoteProtocolError: there is none.
        """
        offer = self._offer
        if offer is None or header != self._header:
            offer = OFFER_SCHEMA.decode(header, limits)
            offer = self._offer = replace(offer, meta=MappingProxyType(dict(offer.meta)))
            self._header = header
        return offer


TASK_SCHEMA: Schema[TaskMessage] = Schema((1, TaskResult), (2, TaskFailed), (3, Receipt))
