"""All that a simulated federation is: a value, drawn from a seed and told in one line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from flare_async.limits import KIB, MIB, Limits
from flare_async.roles.relay import RelayMode
from flare_async.testing.faults import Fault

if TYPE_CHECKING:
    from flare_async.testing.federation.incidents import Incident
    from flare_async.testing.federation.rogues import Rogue

__all__ = ["SERVER", "SMALL", "Mode", "Setting"]

Mode: TypeAlias = Literal["safety", "liveness"]
SERVER: Final = "server"
SMALL: Final = Limits(
    handshake_timeout=3,
    heartbeat_interval=2,
    send_timeout=8,
    stall_timeout=8,
    retry_cap=8,
    session_grace=40,
    start_timeout=40,
    shutdown_timeout=2,
    frame_bytes=8 * KIB,
    window_bytes=32 * KIB,
    link_bytes=128 * KIB,
    process_bytes=1 * MIB,
    control_bytes=8 * KIB,
    channels=256,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Who is there, what they do, what goes wrong, and until when.

    Sites are ``site-0`` and so on, below ``relay-0``, ``relay-1`` and the server in turn. The model
    has ``values`` of float32. ``seconds`` bounds how long a task takes; each is drawn
    anew. ``unwell`` is the probability that a task fails or never ends. ``faults`` act on links,
    ``incidents`` happen once. ``steady`` names sites to whose links nothing deadly happens,
    ``rogues`` those that do not keep to the protocol.

    In liveness mode everything that goes wrong is over at ``heal``: what is played afterwards needs
    all sites, and has to end.
    """

    scenario: str = ""
    seed: int = 0
    mode: Mode = "safety"
    sites: int = 8
    relays: int = 0
    relay_mode: RelayMode = "splice"
    rounds: int = 3
    values: int = 2500
    size: int | None = None
    over_select: float = 1.0
    quorum: int | None = None
    deadline: float | None = None
    window: int | None = None
    seconds: tuple[float, float] = (0.1, 2.0)
    unwell: float = 0.0
    latency: tuple[float, float] = (0.001, 0.02)
    bandwidth: float | None = None
    limits: Limits = SMALL
    faults: tuple[Fault, ...] = ()
    incidents: tuple[Incident, ...] = ()
    late: tuple[tuple[str, float], ...] = ()
    rogues: tuple[tuple[str, Rogue], ...] = ()
    steady: frozenset[str] = frozenset()
    poisoned: frozenset[str] = frozenset()
    heal: float = 0.0
    buggify: float = 0.0
    probes: bool = False
    journal: Literal["", "marks first", "checks then awaits"] = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The sites, in the order of the sum."""
        return tuple(f"site-{number}" for number in range(self.sites))

    @property
    def relay_names(self) -> tuple[str, ...]:
        """The relays."""
        return tuple(f"relay-{number}" for number in range(self.relays))

    def parent(self, site: str) -> str:
        """Return whom a site connects to."""
        places = (*self.relay_names, SERVER)
        return places[int(site.rpartition("-")[2]) % len(places)] if self.relays else SERVER

    def line(self) -> str:
        """Return what differs from the usual, in one line."""
        told = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name != "limits":
                shown = sorted(value) if isinstance(value, frozenset) else value
                told.append(f"{field.name}={shown!r}")
        return " ".join(told)
