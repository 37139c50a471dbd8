"""Which relay or site is below which: a simulated tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flare_async.errors import ConfigError
from flare_async.net.names import SITE_NAME
from flare_async.roles.routes import HOPS

__all__ = ["ROOT", "Topology"]

ROOT: Final = "server"


@dataclass(frozen=True, slots=True)
class Topology:
    """Relays, parents first, and the parent of every relay and site that is not below the server.

    ``Topology.of`` makes one from what a user writes.
    """

    relays: tuple[str, ...] = ()
    parents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: int | Mapping[str, str] | None, sites: Sequence[str]) -> Topology:
        """Return the tree for a number of relays, or for a mapping from names to their parents.

        Raises:
            ConfigError: a parent that nobody is, a loop, a tree that is too deep, a site as parent.
        """
        if given is None:
            return cls()
        if isinstance(given, int):
            return cls._even(given, sites)
        relays = [name for name in given if name not in sites]
        for name, parent in given.items():
            if parent != ROOT and parent not in relays:
                problem = f"{name!r} is below {parent!r}, which is neither a relay nor {ROOT!r}"
                raise ConfigError("relays", dict(given), problem)
        bad = [name for name in relays if not SITE_NAME.fullmatch(name) or name == ROOT]
        if bad:
            raise ConfigError("relays", bad[:5], "no names of relays: use letters, digits and -")
        depths = {name: _depth(name, given) for name in relays}
        return cls(tuple(sorted(relays, key=depths.__getitem__)), dict(given))

    @classmethod
    def _even(cls, count: int, sites: Sequence[str]) -> Topology:
        if isinstance(count, bool) or not 1 <= count <= len(sites):
            problem = f"a number from 1 to that of the sites, {len(sites)}, is needed"
            raise ConfigError("relays", count, problem)
        relays = tuple(f"relay-{number}" for number in range(1, count + 1))
        clash = sorted(set(relays) & set(sites))
        if clash:
            raise ConfigError("relays", clash[:5], "sites have the names of relays")
        # Neighbours in the order of the sum share a relay, as in a plan of groups.
        part = -(-len(sites) // count)
        parents = {site: relays[index // part] for index, site in enumerate(sites)}
        used = tuple(relay for relay in relays if relay in set(parents.values()))
        return cls(used, {**dict.fromkeys(used, ROOT), **parents})

    def parent(self, name: str) -> str:
        """Return the name of the parent of a relay or a site."""
        return self.parents.get(name, ROOT)


def _depth(name: str, parents: Mapping[str, str]) -> int:
    depth, at = 1, parents[name]
    while at != ROOT:
        depth, at = depth + 1, parents[at]
        if depth > HOPS:
            problem = f"{name!r} is in a loop, or behind more than {HOPS} relays"
            raise ConfigError("relays", name, problem)
    return depth
