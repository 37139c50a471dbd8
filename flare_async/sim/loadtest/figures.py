"""What a load test found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flare_async.errors import FlareError
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.sim.loadtest.host import HostFigures
from flare_async.sim.loadtest.setting import LoadSetting
from flare_async.sim.quantities import format_bytes

__all__ = ["LoadFigures", "quantiles_ms"]

QUANTILES = (50.0, 90.0, 99.0, 100.0)
ELSEWHERE = "as those tell that have joined"


@dataclass(slots=True)
class LoadFigures:
    """Times are seconds, sizes bytes; ``records`` are all tasks of all rounds."""

    setting: LoadSetting
    connect_s: float = 0.0
    rounds_s: list[float] = field(default_factory=list)
    records: list[SiteRecord] = field(default_factory=list)
    lags_s: Sequence[float] = ()
    server_grown: int = 0
    server_peak: int = 0
    hosts: list[HostFigures] = field(default_factory=list)
    correct: bool = False  # the model is what so many rounds make of it
    problem: FlareError | None = None  # what ended the rounds too early

    @property
    def latencies_s(self) -> list[float]:
        """How long each task took that ended well."""
        return [one.ended - one.started for one in self.records if one.status is SiteStatus.OK]

    def failures(self) -> dict[str, int]:
        """Return how many tasks ended otherwise, by how and why."""
        bad = (one for one in self.records if one.status is not SiteStatus.OK)
        kinds = Counter(f"{one.status}: {one.code}" if one.code else str(one.status) for one in bad)
        return dict(sorted(kinds.items()))

    def grown_at_hosts(self) -> float | None:
        """Return the bytes a client; None where no process here has clients alone."""
        if self.setting.alone or self.setting.away:
            return None
        return sum(host.grown for host in self.hosts) / self.setting.clients

    @property
    def processes(self) -> int:
        """How many there were, the server's included; 0 where others have joined."""
        if self.setting.away:
            return 0
        return 1 if self.setting.alone else 1 + len(self.hosts)

    def document(self) -> dict[str, object]:
        """Return all figures as plain data."""
        seconds = sum(self.rounds_s)
        tasks = self.setting.clients * max(1, len(self.rounds_s))
        down = sum(one.bytes_down for one in self.records)
        up = sum(one.bytes_up for one in self.records)
        clients, away = self.setting.clients, self.setting.away
        return {
            "clients": clients,
            "rounds": len(self.rounds_s),
            "model_bytes": self.setting.nbytes,
            "transport": self.setting.address.partition(":")[0],
            "processes": self.processes,
            "connect_s": self.connect_s,
            "round_s": self.rounds_s,
            "rounds_per_s": len(self.rounds_s) / seconds if seconds else 0.0,
            "client_round_us": seconds / tasks * 1e6,
            "task_latency_ms": quantiles_ms(self.latencies_s),
            "loop_lag_ms": quantiles_ms(self.lags_s),
            "bytes_down": down,
            "bytes_up": up,
            "bytes_per_s": (down + up) / seconds if seconds else 0.0,
            "server_peak_bytes": self.server_peak,
            "server_bytes_a_client": self.server_grown / clients,
            "host_bytes_a_client": self.grown_at_hosts(),
            "links_cut": None if away else sum(host.cuts for host in self.hosts),
            "clients_lost": None if away else sum(host.lost for host in self.hosts),
            "tasks_ok": len(self.latencies_s),
            "failures": self.failures(),
            "correct": self.correct,
            "problem": None if self.problem is None else str(self.problem),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return what people read."""
        found = self.document()
        latency, lag = quantiles_ms(self.latencies_s), quantiles_ms(self.lags_s)
        seconds = ", ".join(f"{one:.2f}" for one in self.rounds_s)
        failures = ", ".join(f"{count} {kind}" for kind, count in self.failures().items())
        return [
            ("connected", f"{self.setting.clients} clients in {self.connect_s:.2f} s"),
            ("rounds", f"{seconds} s: {found['rounds_per_s']:.3g} a second"),
            ("a client-round", f"{found['client_round_us']:.0f} us"),
            ("task latency", spoken(latency)),
            ("loop lag", spoken(lag)),
            ("bytes", f"{format_bytes(sum_of(found))}, {rate(found)}"),
            ("memory a client", memory(found)),
            ("links cut", ELSEWHERE if self.setting.away else str(found["links_cut"])),
            ("failures", failures or "none"),
            ("the model", "as it should be" if self.correct else "WRONG"),
        ]


def sum_of(found: Mapping[str, object]) -> float:
    """Return the bytes both ways."""
    return number(found["bytes_down"]) + number(found["bytes_up"])


def rate(found: Mapping[str, object]) -> str:
    """Return bytes a second in words."""
    return f"{format_bytes(number(found['bytes_per_s']))} a second"


def memory(found: Mapping[str, object]) -> str:
    """Return what a client takes at either side, in words."""
    server = format_bytes(number(found["server_bytes_a_client"]))
    clients = found["host_bytes_a_client"]
    if clients is None and found["processes"]:
        return f"{server}, at the server and as a client"
    if clients is None:
        return f"server {server}, clients {ELSEWHERE}"
    return f"server {server}, clients {format_bytes(number(clients))}"


def number(value: object) -> float:
    """Return a figure of a document as a number."""
    return float(value) if isinstance(value, int | float) else 0.0


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max in milliseconds; empty without values."""
    if not seconds:
        return {}
    found = np.percentile(np.asarray(seconds), QUANTILES) * 1e3
    rounded = [round(value, 3) for value in found.tolist()]
    return dict(zip(("p50", "p90", "p99", "max"), rounded, strict=True))


def spoken(quantiles: Mapping[str, float]) -> str:
    """Return quantiles in words."""
    return ", ".join(f"{name} {value:.1f} ms" for name, value in quantiles.items()) or "none"
