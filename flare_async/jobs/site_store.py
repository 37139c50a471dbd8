"""The files of one site, in a folder of its own below another store's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flare_async.ports import Store

__all__ = ["SiteStore"]


@dataclass(frozen=True, slots=True)
class SiteStore:
    """Does what ``store`` does with names that begin with the site's; raises as it does."""

    store: Store
    site: str

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace a file of the site. Raises WorkspaceError."""
        await self.store.write(f"{self.site}/{name}", chunks)

    async def append(self, name: str, data: bytes) -> None:
        """Append to a file of the site. Raises WorkspaceError."""
        await self.store.append(f"{self.site}/{name}", data)

    async def read(self, name: str) -> bytes:
        """Return the whole of a file of the site. Raises WorkspaceError."""
        return await self.store.read(f"{self.site}/{name}")
