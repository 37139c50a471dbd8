"""What ``what-if`` was asked: one setting, or a row of them that differ in one option."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError
from flare_async.limits import Limits
from flare_async.roles.relay import LEAST_BYTES, RelayMode
from flare_async.sim.topology import Topology
from flare_async.sim.virtual.networks import read_profile
from flare_async.sim.virtual.setting import VirtualSetting
from flare_async.sim.virtual.whatif import sites_of
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel

__all__ = ["Asked"]


HEARTBEAT: Final = 60.0  # a ping costs the simulation what data does, and no link is ever lost
MEGABIT: Final = 125_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of ``what-if``, in base units."""

    job: Path
    clients: int
    rounds: int | None
    network: str
    relay_network: str
    relays: int
    relay_mode: RelayMode
    relay_memory: int
    dropout: float
    quorum: float | None
    deadline: float | None
    model_size: int | None
    train_time: Spread
    server_mbit: float
    sweep: tuple[str, tuple[str, ...]] | None
    seed: int
    picture: Path | None
    as_json: bool

    def cases(self) -> Iterator[tuple[str, Asked]]:
        """Yield what is to be played: the value of the swept option, and all options.

        Raises:
            ConfigError: the option cannot have such a value.
        """
        if self.sweep is None:
            yield "", self
            return
        name, values = self.sweep
        for value in values:
            yield value, self._with(name, value)

    def setting(self) -> VirtualSetting:
        """Return the federation. Raises ConfigError."""
        if not self.server_mbit > 0:
            raise ConfigError("server_mbit", self.server_mbit, "a number above 0 is needed")
        limits = Limits(heartbeat_interval=HEARTBEAT)
        more = max(limits.link_bytes, self.relay_memory)
        limits = replace(limits, link_bytes=more, process_bytes=max(limits.process_bytes, more))
        return VirtualSetting(
            clients=self.clients,
            relays=self.relays,
            relay_mode=self.relay_mode,
            relay_bytes=self.relay_memory,
            profile=read_profile(self.network),
            relay_profile=read_profile(self.relay_network),
            server_rate=self.server_mbit * MEGABIT,
            trainer=TrainerModel(duration=self.train_time),
            dropout=self.dropout,
            payload="sizes",
            model_bytes=self.model_size,
            limits=limits,
            seed=self.seed,
        )

    def check(self) -> None:
        """Refuse what could not be played, before anything is. Raises ConfigError."""
        for _, case in self.cases():
            case.setting()
            if case.relays and case.relay_memory < LEAST_BYTES:
                problem = f"at least {LEAST_BYTES} bytes are needed"
                raise ConfigError("relay_memory", case.relay_memory, problem)
            Topology.of(case.relays or None, tuple(map(str, range(case.clients))))

    def least(self) -> int | None:
        """Return how many updates a round needs, or None where the job says it."""
        return None if self.quorum is None else max(1, sites_of(self.quorum, self.clients))

    def _with(self, name: str, value: str) -> Asked:
        if name == "network":
            return replace(self, network=value)
        try:
            if name == "dropout":
                share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
                return replace(self, dropout=share)
            if name == "clients":
                return replace(self, clients=counted(name, int(value), 1))
            return replace(self, relays=counted(name, int(value), 0))
        except ValueError as exc:
            raise ConfigError(f"sweep {name}", value, "is no number") from exc


def counted(name: str, value: int, least: int) -> int:
    """Return a count. Raises ConfigError."""
    if value < least:
        raise ConfigError(f"sweep {name}", value, f"a whole number from {least} on is needed")
    return value
