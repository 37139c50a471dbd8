"""Who holds which version of a model that stays at the sites, as the server knows it."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from flare_async.recipes.peer_control import Answer
from flare_async.roles.messages import Scalar
from flare_async.roles.server import Server

__all__ = ["Holders"]

log = structlog.get_logger()


class Holders:
    """The sites that hold each version, with references that the server cannot pull.

    Version 0 is the first model, which every site has.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held: dict[int, dict[str, str]] = {0: {}}
        self._made: dict[int, str] = {}  # the reference of whoever made a version

    def living(self, version: int) -> list[str]:
        """Return the holders of a version that can be reached."""
        return [site for site in self._held.get(version, ()) if site in self._server.sites]

    def standing(self, version: int) -> int:
        """Return the newest version up to ``version`` that somebody here still holds."""
        standing = version
        while standing > 0 and not self.living(standing):
            standing -= 1
        if standing < version:
            log.warning("model_lost", version=version, again_from=standing)
        return standing

    def made(self, version: int, answer: Answer) -> None:
        """Take note of who made a version; another model of that number is nobody's any more."""
        self._held[version] = {answer.site: answer.made} if answer.made else {}
        self._made[version] = answer.made

    def model(self, version: int) -> str:
        """Return what tells a version from another one that was made under the same number."""
        return self._made.get(version, "")

    def given(self, version: int, answer: Answer) -> None:
        """Take note of who has been given a version."""
        if answer.has:
            self._held.setdefault(version, {})[answer.site] = answer.has

    def lost(self, version: int) -> None:
        """Take note that nobody gives a version any more."""
        self._held[version] = {}

    def facts(self, version: int, name: str = "model") -> dict[str, Scalar]:
        """Return what a site needs to have a version: of those who have it, the latest first."""
        at = " ".join(reversed(self._held.get(version, {}).values()))
        return {name: version, f"{name}_at": at}

    def needed(self) -> str:
        """Return the references of all that is held for a reason."""
        return " ".join(ref for refs in self._held.values() for ref in refs.values())

    def release(self, needed: Collection[int | None]) -> set[str]:
        """Forget all versions but those that are ``needed``; return who may let go of some."""
        stale = [version for version in self._held if version not in needed]
        return {site for version in stale for site in self._held.pop(version)}
