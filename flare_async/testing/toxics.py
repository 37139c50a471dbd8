"""What a proxy does to one direction of the bytes that it forwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from flare_async.errors import ConfigError

__all__ = ["Toxics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxics:
    """The toxics of one direction; none by default. All of them act together.

    ``stopped`` forwards nothing, not even the end, and keeps the connections open: one direction
    is a one-way stop, both are a half-open peer. ``timeout`` closes them after so many seconds of
    that. ``limit_data`` ends a connection after so many bytes of this direction.

    Raises:
        ConfigError: a value that makes no sense; the error names the field.
    """

    latency: float = 0.0  # seconds that bytes wait
    jitter: float = 0.0  # up to so many seconds more; the order is kept
    bandwidth: float | None = None  # bytes a second, each connection for itself
    slice_bytes: int | None = None  # the longest piece that is written at once
    slow_close: float = 0.0  # seconds that the end of the stream waits
    limit_data: int | None = None
    stopped: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            zero = field.name in {"latency", "jitter", "slow_close", "limit_data"}
            if value is None or isinstance(value, bool):
                continue
            if not (0 < value < math.inf or (zero and value == 0)):
                raise ConfigError(f"Toxics.{field.name}", value, "a positive number is needed")

    @property
    def harmless(self) -> bool:
        """Whether bytes may be forwarded as they come."""
        return self == Toxics()
