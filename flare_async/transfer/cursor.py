"""The order of a sum: which site is next, whatever the order in which updates arrive."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum

from flare_async.errors import ConfigError, LocalProtocolError

__all__ = ["Cursor", "SiteState"]


class SiteState(Enum):
    """Where a site of the cohort stands; the last two are final."""

    OPEN = "open"
    COMMITTED = "committed"
    DISCARDED = "discarded"


class Cursor:
    """Walks a cohort in its order, stops at open sites, skips discarded ones.

    Raises:
        ConfigError: a site comes twice.
    """

    __slots__ = ("_at", "_order", "_states")

    def __init__(self, order: Sequence[str]) -> None:
        self._order = tuple(order)
        self._states = dict.fromkeys(self._order, SiteState.OPEN)
        self._at = 0
        if len(self._states) != len(self._order):
            raise ConfigError("order", len(self._order), f"has {len(self._states)} different sites")

    def require_open(self, site: str) -> None:
        """Check that a site is of the cohort and open.

        Raises:
            LocalProtocolError: it is not.
        """
        state = self._states.get(site)
        if state is not SiteState.OPEN:
            known = "not of this cohort" if state is None else f"{state.value} already"
            raise LocalProtocolError(f"{site}: is {known}")

    def in_order(self, sites: Collection[str]) -> list[str]:
        """Return some open sites in order.

        Raises:
            LocalProtocolError: there are none, or one is not of the cohort, or settled.
        """
        for site in sites:
            self.require_open(site)
        if not sites:
            raise LocalProtocolError("a sum of no sites")
        return [site for site in self._order if site in sites]

    @property
    def untouched(self) -> bool:
        """Whether every site is open."""
        return all(state is SiteState.OPEN for state in self._states.values())

    def commit(self, site: str) -> None:
        """Settle an open site as committed.

        Raises:
            LocalProtocolError: it is not open.
        """
        self.require_open(site)
        self._states[site] = SiteState.COMMITTED

    def discard(self, site: str) -> None:
        """Settle a site as discarded; harmless when it is already.

        Raises:
            LocalProtocolError: it is committed, or not of the cohort.
        """
        if self._states.get(site) is not SiteState.DISCARDED:
            self.require_open(site)
            self._states[site] = SiteState.DISCARDED

    def open_sites(self) -> list[str]:
        """Return the sites that are not settled, in order."""
        return [site for site, state in self._states.items() if state is SiteState.OPEN]

    def take(self) -> str | None:
        """Return the next committed site, once each, or None while an open one is before it."""
        while self._at < len(self._order):
            site = self._order[self._at]
            state = self._states[site]
            if state is SiteState.OPEN:
                return None
            self._at += 1
            if state is SiteState.COMMITTED:
                return site
        return None
