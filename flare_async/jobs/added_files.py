"""Files that users add for their sites or for the server, and where code finds them.

A site's code asks for a file by its name: ``site.file("vocabulary.txt")`` in a function,
``flare.get_file("vocabulary.txt")`` in a script. What it gets is a path at that site. The names
travel with the site's options, under a key that they do not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.site import FILES, Plain
from flare_async.jobs.work import Work

__all__ = ["AddedFile", "add_file", "check_clients", "path_of", "with_files"]

PLACEHOLDER: Final = "{{file:{}}}"  # in a script's command and arguments


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file or folder, and the sites that have it; None is all of them."""

    path: Path
    clients: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """What code calls it."""
        return self.path.name


def add_file(
    field: str,
    files: list[AddedFile],
    path: str | Path,
    clients: Sequence[str] | None = None,
) -> None:
    """Add a file to a list.

    Raises:
        ConfigError: there is no such file, or there is another of its name at a site.
    """
    place = Path(path).expanduser().absolute()
    if not place.is_file() and not place.is_dir():
        raise ConfigError(field, str(path), "there is no such file")
    if isinstance(clients, str) or not all(isinstance(name, str) for name in clients or ()):
        raise ConfigError(f"{field}.clients", clients, "a list of names is needed")
    made = AddedFile(place, None if clients is None else tuple(clients))
    for other in files:
        if other.name == made.name and share(made.clients, other.clients):
            problem = f"a site would have two of that name: {other.path} too"
            raise ConfigError(field, str(place), problem, "rename one of them")
    files.append(made)


def share(some: tuple[str, ...] | None, others: tuple[str, ...] | None) -> bool:
    """Return whether a site is among both; None stands for all."""
    return some is None or others is None or bool(set(some) & set(others))


def check_clients(files: Sequence[AddedFile], sites: Sequence[str]) -> None:
    """Refuse names of sites that do not exist. Raises ConfigError."""
    unknown = sorted({name for one in files for name in one.clients or ()} - set(sites))
    if unknown:
        raise ConfigError("add_client_file.clients", unknown[:5], "no such sites")


def with_files(work: Work, site: str, files: Sequence[AddedFile]) -> Work:
    """Return a site's work with the files that the site has."""
    own = {one.name: str(one.path) for one in files if one.clients is None or site in one.clients}
    if not own:
        return work
    script = work.script
    if script is not None:
        script = replace(script, args=filled(script.args, own), command=filled(script.command, own))
    return replace(work, config={**work.config, FILES: own}, script=script)


def filled(text: str, files: Mapping[str, str]) -> str:
    """Return text with the paths of files in place of ``{file:name}``."""
    for name, path in files.items():
        text = text.replace(PLACEHOLDER.format(name), path)
    return text


def path_of(config: Mapping[str, Plain], name: str) -> Path:
    """Return where a site has a file.

    Raises:
        ConfigError: it has none of that name; the hint has the names.
    """
    files = cast("Mapping[str, str]", config.get(FILES, {}))
    if name not in files:
        near = get_close_matches(name, files, n=1)
        known = f"known: {', '.join(sorted(files)[:5])}" if files else "use recipe.add_client_file"
        hint = f"did you mean {near[0]}?" if near else known
        raise ConfigError("file", name, "the site has no file of that name", hint)
    return Path(files[name])
