"""The order in which versions of a model were formed, as a run without rounds records it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError

__all__ = ["VERSIONS_FILE", "Part", "Replay"]

VERSIONS_FILE: Final = "versions.jsonl"
FORM: Final = '{"version": 1, "updates": [{"site": "site-1", "task": 0, "from": 0}, ...]}'


@dataclass(frozen=True, slots=True)
class Part:
    """A site's ``task``, counted from 0 for each site, done from version ``base``."""

    site: str
    task: int
    base: int

    @property
    def said(self) -> str:
        """The part in words, for messages."""
        return f"task {self.task} of {self.site} from version {self.base}"


class Replay:
    """Which updates make each version, and from which version each site begins each task.

    Raises:
        ConfigError: an update comes twice, or is made from a version that is not there yet.
    """

    def __init__(self, versions: Sequence[frozenset[Part]]) -> None:
        self.versions = tuple(versions)
        self._bases: dict[str, list[Part]] = {}
        for number, parts in enumerate(self.versions, 1):
            for part in parts:
                if part.base >= number:
                    raise refused(number, f"{part.site} begins from version {part.base}")
                self._bases.setdefault(part.site, []).append(part)
        for site, found in self._bases.items():
            found.sort(key=lambda part: part.task)
            numbers = [part.task for part in found]
            if len(set(numbers)) != len(numbers):
                raise ConfigError("replay", site, f"a task comes twice among {numbers[:9]}")
            if [part.base for part in found] != sorted(part.base for part in found):
                raise ConfigError("replay", site, "begins from an older version than before")

    @classmethod
    def read(cls, path: str | Path) -> Replay:
        """Return what a run has written, from its file or its folder.

        Raises:
            ConfigError: it cannot be read, or is no such file.
        """
        place = Path(path).expanduser()
        try:
            text = (place / VERSIONS_FILE if place.is_dir() else place).read_text("utf-8")
        except (OSError, ValueError) as exc:
            raise ConfigError("replay", str(path), f"cannot be read: {exc}") from exc
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Replay:
        """Return what lines of JSON say, a version a line. Raises ConfigError."""
        lines = [line for line in text.split("\n") if line.strip()]
        return cls([parsed(number, line) for number, line in enumerate(lines, 1)])

    def parts(self, version: int) -> frozenset[Part]:
        """Return what makes a version; nothing where the record has ended."""
        return self.versions[version - 1] if version <= len(self.versions) else frozenset()

    def next_of(self, site: str, task: int) -> Part | None:
        """Return a site's first recorded task from number ``task`` on."""
        found = (part for part in self._bases.get(site, ()) if part.task >= task)
        return next(found, None)


def parsed(number: int, line: str) -> frozenset[Part]:
    """Return the updates of one line. Raises ConfigError."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise refused(number, "no JSON") from exc
    rows = row.get("updates") if isinstance(row, dict) else None
    if not isinstance(rows, list) or not rows or row.get("version") != number:
        raise refused(number, "not a version with its updates")
    parts = [part_of(number, one) for one in rows]
    if len(set(parts)) != len(parts):
        raise refused(number, "an update comes twice")
    return frozenset(parts)


def part_of(number: int, row: object) -> Part:
    """Return one update. Raises ConfigError."""
    if not isinstance(row, dict):
        raise refused(number, "an update is no object")
    site, task, base = row.get("site"), row.get("task"), row.get("from")
    if not isinstance(site, str) or type(task) is not int or type(base) is not int:
        raise refused(number, f"an update lacks site, task or from: {row!r:.60}")
    if task < 0 or base < 0:
        raise refused(number, f"task {task} from version {base}")
    return Part(site, task, base)


def refused(number: int, problem: str) -> ConfigError:
    """Return the error for one line."""
    return ConfigError("replay", f"line {number}", problem, f"lines are as {FORM}")
