"""What a round is made of, and what its sites bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from flare_async.roles.machine import RoundPlan
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord
from flare_async.transfer.admission import Admission
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.net.session import Session
    from flare_async.roles.server import Server
    from flare_async.transfer.mean_options import SumRules
    from flare_async.transfer.reducer import Reducer, SteppedReducer
    from flare_async.transfer.shelf import Offer
    from flare_async.wire.session import OpenOptions

__all__ = ["Group", "RoundObserver", "RoundSetting", "RoundTask", "Update"]

VALIDATE = "validate"
Wording: TypeAlias = tuple[int, bytes | None, int]  # the attempt, and what travels: ``Carriage``


@dataclass(frozen=True, slots=True)
class RoundTask:
    """What every site of a round is asked to do; ``validate`` asks for metrics only.

    ``keep_until`` is the receipt after which sites let go of their update. It does not say that the
    memory is free: over ``memory`` an update that was *received* may be added later, from where it
    is.
    """

    job: str
    number: int
    total: int
    name: str = "train"
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    keep_until: str = "committed"

    @property
    def wants_update(self) -> bool:
        """Whether sites are to bring tensors."""
        return self.name != VALIDATE


@dataclass(frozen=True, slots=True)
class Update:
    """What one site brought; ``tensors`` is None where a reducer took them or none were sent.

    ``ref`` is where they can be pulled again as long as the site keeps them.
    """

    site: str
    params_type: str
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    weight: float
    seconds: float
    received: Mapping[str, float] = field(default_factory=dict)
    nbytes: int = 0
    tensors: TensorSet | None = None
    ref: TensorRef | None = None


class RoundObserver(Protocol):
    """Is told of a round's sites as it happens; must not block.

    A site that the round ends without is finished (late) though it never started.
    """

    def site_started(self, number: int, site: str) -> None:
        """Take note that a site was given its task."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Take note of how a site's part ended."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sites whose updates a relay adds, in the order of the sum; ``via`` is the relay's session."""

    via: Session
    sites: tuple[str, ...]
    rules: SumRules


@dataclass(frozen=True, slots=True)
class RoundSetting:
    """All that a round is made of; ``admission`` knows the tensors of the offered model."""

    server: Server
    task: RoundTask
    plan: RoundPlan
    offer: Offer
    admission: Admission
    observer: RoundObserver
    reducer: Reducer | None = None
    stepped: SteppedReducer | None = None  # the same reducer, if its arithmetic has steps
    weigh: Callable[[str, Mapping[str, Scalar]], float] | None = None
    groups: tuple[Group, ...] = ()  # numbered as those of the plan
    headers: dict[Wording, bytes] = field(default_factory=dict)  # the task as it is offered
    options: dict[int, OpenOptions] = field(default_factory=dict)  # by the bytes that it takes
