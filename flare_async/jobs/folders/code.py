"""What user code imports: the modules beside it, found in its text without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flare_async.errors import ConfigError
from flare_async.jobs.folders.names import MOST_FILES
from flare_async.jobs.places import code_root, has_module, is_users

__all__ = ["Entry", "modules_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the user's, and the folder from which its imports are counted."""

    path: Path
    root: Path

    @classmethod
    def of(cls, path: Path, package: str = "") -> Entry:
        """Return the entry of a script, or of a module in a package."""
        return cls(path, code_root(path, package))

    @property
    def name(self) -> str:
        """The file's name below the root."""
        return self.path.relative_to(self.root).as_posix()


def modules_of(field: str, entry: Entry) -> dict[str, Path]:
    """Return the user's files that an entry needs, itself first, by their names below its root.

    Imported modules are looked for beside it, then where this process would find them; what is
    installed, or cannot be found, is left to whoever runs the job.

    Raises:
        ConfigError: a file is no Python, or there are too many.
    """
    found = {entry.name: entry.path}
    waiting = [entry.name] if entry.path.suffix == ".py" else []  # a command may run anything
    places = [entry.root, *(Path(place) if place else Path.cwd() for place in sys.path)]
    while waiting:
        name = waiting.pop()
        for module in imported(field, found[name], name):
            for at, path in located(module, places):
                if at not in found:
                    found[at] = path
                    waiting.append(at)
        if len(found) > MOST_FILES:
            raise ConfigError(field, str(entry.path), f"imports more than {MOST_FILES} modules")
    return found


def imported(field: str, path: Path, name: str) -> Iterator[str]:
    """Yield the dotted names that a file imports, also those that may be names in a module."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError) as exc:
        raise ConfigError(field, str(path), f"cannot be read as Python: {exc}") from exc
    package = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def located(module: str, places: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module and of the packages around it, if they are the user's."""
    parts = [part for part in module.split(".") if part]
    if not parts or parts[0] in sys.stdlib_module_names:
        return
    home = next((place for place in places if has_module(place, parts[0])), None)
    if home is None:
        return
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if (home / name).is_file() and is_users(str((home / name).absolute())):
                yield name, home / name
