"""Which sites are behind which relay that adds, and how many of them one sum may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from flare_async.limits import Limits
from flare_async.net.session import Session
from flare_async.roles.directory import Directory

__all__ = ["fits", "groups_behind"]

A_NAME: Final = 8  # bytes beside it, of a message's own parts
OTHERS: Final = 64  # values of a sum's task beside its sites, and as many bytes for each of them
log = structlog.get_logger()


def groups_behind(
    directory: Directory, sites: Sequence[str], limits: Limits
) -> dict[Session, list[str]]:
    """Return the sites behind each relay that adds, in their order."""
    behind: dict[Session, list[str]] = {}
    for site in sites:
        via = directory.via(site)
        if via is not None and via in directory.reducing:
            behind.setdefault(via, []).append(site)
    for via, group in list(behind.items()):
        if not fits(group, limits):
            facts = {"control_items": limits.control_items, "control_bytes": limits.control_bytes}
            log.warning("sites_not_added", relay=via.peer, sites=len(group), **facts)
            del behind[via]
    return behind


def fits(sites: Sequence[str], limits: Limits) -> bool:
    """Return whether a sum of these sites can be asked for in one message."""
    nbytes = sum(len(site.encode()) + A_NAME for site in sites) + OTHERS * OTHERS
    return nbytes <= limits.control_bytes and len(sites) + OTHERS <= limits.control_items
