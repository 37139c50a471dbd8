"""A network profile from its TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError
from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread

__all__ = ["LINE_KEYS", "NETWORKS", "read_profile"]

NETWORKS: Final = ("lan", "wan", "4g", "hospital-vpn")
LINE_KEYS: Final = ("latency_ms", "jitter_ms", "bandwidth_mbit", "loss_percent")
MEGABIT: Final = 125_000.0  # bytes
FAR: Final = {"latency_ms": "p95", "bandwidth_mbit": "p5"}


def read_profile(name: str) -> Profile:
    """Return a profile that comes with the package, or that of a file.

    Raises:
        ConfigError: there is none of that name, or the file is no profile; the error names the key.
    """
    if name in NETWORKS:
        text = (files(__name__.rpartition(".")[0]) / f"{name}.toml").read_text(encoding="utf-8")
        return parsed(name, text)
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = get_close_matches(name.removesuffix(".toml"), NETWORKS, n=1)
        known = f"give a TOML file, or one of {', '.join(NETWORKS)}"
        hint = f"did you mean {near[0]}?" if near else known
        raise ConfigError("network", name, "no such profile or file", hint) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("network", name, f"cannot be read: {exc}") from exc
    return parsed(path.stem, text)


def parsed(name: str, text: str) -> Profile:
    """Return the profile that a text describes. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError("network", name, f"is no valid TOML: {exc}") from exc
    check_keys(name, table, ("up", "down"))
    lines = {}
    for side in ("up", "down"):
        if not isinstance(table.get(side), dict):
            raise ConfigError(f"{name}.{side}", table.get(side), "a table is needed")
        lines[side] = line_of(f"{name}.{side}", table[side])
    return Profile(name, lines["up"], lines["down"])


def line_of(field: str, table: Mapping[str, object]) -> Line:
    """Return one direction. Raises ConfigError."""
    check_keys(field, table, LINE_KEYS)
    latency = spread_of(field, "latency_ms", table.get("latency_ms", 0)).scaled(1e-3)
    bandwidth = None
    if "bandwidth_mbit" in table:
        bandwidth = spread_of(field, "bandwidth_mbit", table["bandwidth_mbit"]).scaled(MEGABIT)
        if not bandwidth.median > 0:
            raise ConfigError(f"{field}.bandwidth_mbit", 0, "must be positive, or left out")
    jitter = number_of(f"{field}.jitter_ms", table.get("jitter_ms", 0))
    loss = number_of(f"{field}.loss_percent", table.get("loss_percent", 0))
    if loss >= 50:
        raise ConfigError(f"{field}.loss_percent", loss, "below 50 is needed")
    return Line(latency, bandwidth, jitter / 1e3, loss / 100)


def spread_of(field: str, key: str, value: object) -> Spread:
    """Return a spread: of a number, or of a median and the value that a twentieth is beyond."""
    name, far = f"{field}.{key}", FAR[key]
    if not isinstance(value, dict):
        return Spread.constant(number_of(name, value))
    check_keys(name, value, ("median", far))
    if "median" not in value:
        raise ConfigError(name, value, "has no median")
    median = number_of(f"{name}.median", value["median"])
    edge = number_of(f"{name}.{far}", value.get(far, median))
    wrong = edge < median if far == "p95" else edge > median
    if wrong or (edge == 0) != (median == 0):
        problem = f"contradicts the median {median:g}"
        raise ConfigError(f"{name}.{far}", edge, problem)
    return Spread(median, edge)


def number_of(name: str, value: object) -> float:
    """Return a number from 0 on. Raises ConfigError."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 <= value < 1e9:  # type: ignore[operator] # it is a number
        raise ConfigError(name, value, "a number from 0 to a thousand millions is needed")
    return float(value)  # type: ignore[arg-type] # it is a number


def check_keys(field: str, table: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Refuse keys that mean nothing, with the one that was probably meant. Raises ConfigError."""
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"
            raise ConfigError(f"{field}.{key}", table[key], "no such key", hint)
