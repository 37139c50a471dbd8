"""The command line's options, and where their values come from when they are not given."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

from flare_async.errors import ConfigError

__all__ = ["PREFIX", "Options", "project_defaults"]

PREFIX: Final = "FLARE_ASYNC"
SECTION: Final = "tool.flare-async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``python -m flare_async.sim`` was asked to do; None where the job decides."""

    job: Path | None = None
    clients: int | None = None
    rounds: int | None = None
    workers: Literal["inline", "thread", "process", "ray"] = "thread"
    threads: int | None = None
    seed: int = 7
    transport: Literal["memory", "tcp", "unix"] = "memory"
    workspace: Path = Path("flare-runs")
    alpha: float | None = None
    json: bool = False
    quiet: bool = False


def project_defaults(path: Path, known: Collection[str]) -> dict[str, object]:
    """Return the ``[tool.flare-async]`` table of a project's file; empty where there is none.

    Raises:
        ConfigError: the file is no TOML, or the table has a name that is no option.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), "", f"cannot be read: {exc}") from exc
    try:
        tools = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(str(path), "", f"is no valid TOML: {exc}") from exc
    table = tools.get("flare-async", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(SECTION, table, "a table is needed")
    for name in table:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(known))}"
            raise ConfigError(f"{SECTION}.{name}", table[name], "no such option", hint)
    return {name: _plain(name, value) for name, value in table.items()}


def _plain(name: str, value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{SECTION}.{name}", value, f"{type(value).__name__} is no option's value")
