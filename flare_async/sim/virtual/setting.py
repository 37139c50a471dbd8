"""What a virtual federation is like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from flare_async.arguments import configured
from flare_async.errors import ConfigError
from flare_async.limits import KIB, Limits
from flare_async.roles.relay import PROCESS_BYTES, RelayMode
from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel

__all__ = ["AT_ONCE", "GIGABIT", "Payload", "VirtualSetting"]

Payload = Literal["bytes", "sizes"]
GIGABIT: Final = 125_000_000.0  # bytes a second
AT_ONCE: Final = Profile("at once", Line(), Line())
NEAR: Final = Profile("near", *(Line(Spread.constant(0.0005), Spread.constant(10 * GIGABIT)),) * 2)


@configured(clients=1)
@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSetting:
    """A federation in virtual time: who takes part, over what network, how training goes.

    Sites connect over ``profile``, relays to the server over ``relay_profile``; all links of the
    server share ``server_rate`` bytes a second in each direction, those of a relay ``relay_rate``.
    ``relays`` and ``relay_mode`` are those of ``SimEnv``; 0 relays is none.

    ``trainer`` says how long tasks take and how they fail. A site drops out of a round with the
    probability ``dropout``: in the middle of its training it says no more, where the round is bound
    to end without it, or reports a failure where the recipe waits for everybody.

    With ``payload`` "bytes" the recipe's functions run, at the end of a task's virtual seconds.
    With "sizes" no user code runs and models are of the zero page: all frames, credits and
    acknowledgements pass, and no byte is copied, hashed or added.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    clients: int
    relays: int | Mapping[str, str] = 0
    relay_mode: RelayMode = "cache"
    profile: Profile = AT_ONCE
    relay_profile: Profile = NEAR
    server_rate: float = 10 * GIGABIT
    relay_rate: float = 10 * GIGABIT
    trainer: TrainerModel = field(default_factory=TrainerModel)
    dropout: float = 0.0
    payload: Payload = "bytes"
    model_bytes: int | None = None  # in place of the model's own size, where only sizes count
    frame_bytes: int = 256 * KIB
    relay_bytes: int = PROCESS_BYTES  # credit that all links of one relay share
    limits: Limits = field(default_factory=Limits)
    horizon: float = 365 * 86_400.0  # virtual seconds that a run may take
    seed: int = 0
    trace: bool = False

    def __post_init__(self) -> None:
        for name in ("server_rate", "relay_rate", "horizon"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "a number above 0 is needed")
        if not 0 <= self.dropout < 1:
            raise ConfigError("dropout", self.dropout, "a probability from 0 to below 1 is needed")
        if self.payload not in get_args(Payload):
            raise ConfigError("payload", self.payload, "use bytes or sizes")
        if self.model_bytes is not None and (self.payload == "bytes" or self.model_bytes < 4):
            problem = 'needs payload="sizes" and at least 4 bytes'
            raise ConfigError("model_bytes", self.model_bytes, problem)
        if type(self.frame_bytes) is not int or self.frame_bytes < 4 * KIB:
            raise ConfigError("frame_bytes", self.frame_bytes, "at least 4096 are needed")

    def rate_of(self, host: str, relays: frozenset[str]) -> float:
        """Return what all links of a host share: sites have lines of their own."""
        if host == "server":
            return self.server_rate
        return self.relay_rate if host in relays else math.inf
