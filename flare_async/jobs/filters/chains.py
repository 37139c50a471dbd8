"""The filters of a recipe: which run where, for which tasks and sites, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flare_async.errors import ConfigError
from flare_async.transfer.filters.filter import Filter

__all__ = ["Added", "FilterChains", "Place"]

Place: TypeAlias = Literal["client_input", "client_output", "server_input", "server_output"]
MODELS: Final = frozenset({"client_input", "server_output"})  # whole models pass, no updates


@dataclass(frozen=True, slots=True)
class Added:
    """A filter; None stands for all tasks, or all sites."""

    filter: Filter
    tasks: frozenset[str] | None
    clients: frozenset[str] | None


class FilterChains:
    """Four chains; in each, filters run in the order in which they were added."""

    def __init__(self) -> None:
        self._added: dict[Place, list[Added]] = {}

    def __bool__(self) -> bool:
        """Whether there is any filter."""
        return bool(self._added)

    def add(
        self,
        place: Place,
        added: Filter,
        tasks: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        """Append a filter to a chain.

        Raises:
            ConfigError: it is no filter, or one for differences where whole models pass; or tasks
                or clients are no lists of names.
        """
        field = f"add_{place}_filter"
        given: object = added
        if not isinstance(given, Filter):
            hint = "make an object of a subclass of flare_async.transfer.filters.Filter"
            raise ConfigError(field, added, "is no filter", hint)
        if added.differences and place in MODELS:
            name = type(added).__name__
            problem = f"{name} is for what sites have changed, and whole models pass here"
            raise ConfigError(field, added, problem, "use add_client_output_filter")
        entry = Added(added, _names(f"{field}.tasks", tasks), _names(f"{field}.clients", clients))
        self._added.setdefault(place, []).append(entry)

    def of(self, place: Place, task: str, site: str | None = None) -> tuple[Filter, ...]:
        """Return the filters that run for a task, at a site if it is given."""
        return tuple(
            entry.filter
            for entry in self._added.get(place, ())
            if entry.tasks is None or task in entry.tasks
            if site is None or entry.clients is None or site in entry.clients
        )

    def added(self) -> Iterator[tuple[Place, Added]]:
        """Yield every filter with its place, those of a place in their order."""
        for place, entries in self._added.items():
            for entry in entries:
                yield place, entry

    def compares(self, site: str) -> bool:
        """Return whether a site's update is compared with the model that it received."""
        return any(
            entry.filter.differences or entry.filter.compares
            for entry in self._added.get("client_output", ())
            if entry.clients is None or site in entry.clients
        )

    def check_sites(self, sites: Iterable[str]) -> None:
        """Refuse names of sites that do not exist. Raises ConfigError."""
        known = set(sites)
        for place, entries in self._added.items():
            for entry in entries:
                unknown = sorted((entry.clients or frozenset()) - known)
                if unknown:
                    raise ConfigError(f"add_{place}_filter.clients", unknown[:5], "no such sites")


def _names(field: str, names: Sequence[str] | None) -> frozenset[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(field, names, "a list of names is needed")
    return frozenset(names)
