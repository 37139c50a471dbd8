"""What a client and a trainer say to each other, beside the tensors.

``coding`` is how they travel. A trainer runs user code, so its client believes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from flare_async.jobs.scripts.desk import TaskFacts
from flare_async.jobs.site import Plain, Scalar
from flare_async.jobs.work import Framework
from flare_async.model import ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.spec import TensorSpec

__all__ = [
    "Closing",
    "Ended",
    "FromTrainer",
    "Hello",
    "Logged",
    "Message",
    "Offered",
    "Refused",
    "Result",
    "Seen",
    "Taken",
    "ToTrainer",
    "Welcome",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word of a trainer's process: the token of its launch, and its rank."""

    token: str
    rank: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The facts that stay: the site, its job, the script's options, how models travel."""

    site: str
    job: str
    config: Mapping[str, Plain]
    framework: Framework
    transfer: ParamsType
    empties_cache: bool = False


@dataclass(frozen=True, slots=True)
class Offered:
    """One task; for rank 0 the model's file travels with it, in the layout of ``specs``."""

    facts: TaskFacts
    specs: tuple[TensorSpec, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    trims: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """The script of rank 0 knows of task ``number``; one that ends before is started anew."""

    number: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of task ``number``; the update's file travels with it, if there is one."""

    number: int
    params_type: ParamsType
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    seconds: float
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """The client has the result of task ``number``: it needs nothing more of the trainer."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The client cannot use the result of task ``number``."""

    number: int
    problem: str


@dataclass(frozen=True, slots=True)
class Ended:
    """There are no more tasks."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A record; ``dropped`` counts those before it that found no room."""

    record: LogRecord
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Closing:
    """The script needs no more tasks."""


FromTrainer: TypeAlias = Hello | Seen | Result | Logged | Closing
ToTrainer: TypeAlias = Welcome | Offered | Taken | Refused | Ended
Message: TypeAlias = FromTrainer | ToTrainer
