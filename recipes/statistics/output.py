"""The files that federated statistics leave in a run folder: JSON, and a page beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from flare_async.errors import ConfigError, WorkspaceError
from flare_async.jobs.store import FolderStore
from flare_async.jobs.threads import run_to_end
from flare_async.recipes.statistics.document import document_of
from flare_async.recipes.statistics.page import page_of
from flare_async.recipes.statistics.pooled import Pooled

__all__ = ["Output"]

MOST_PLACES = 15


@dataclass(frozen=True, slots=True)
class Output:
    """Where below the run folder, and how many decimal places numbers have; None is all.

    ``max_centroids`` is how many the merged digests have.

    Raises:
        ConfigError: the path leaves the run folder or is the page's, or the places are no number.
    """

    stats_output_path: str
    precision: int | None
    max_centroids: int

    def __post_init__(self) -> None:
        path = PurePosixPath(self.stats_output_path)
        if path.is_absolute() or ".." in path.parts or path.suffix in {"", ".html"}:
            hint = "for instance 'statistics/adults.json'"
            problem = "a file below the run folder is needed"
            raise ConfigError("stats_output_path", self.stats_output_path, problem, hint)
        places = self.precision
        if places is not None and (type(places) is not int or not 0 <= places <= MOST_PLACES):
            problem = f"None or an integer from 0 to {MOST_PLACES} is needed"
            raise ConfigError("precision", places, problem)

    async def write(self, folder: Path, pooled: Pooled, title: str) -> None:
        """Compute and write both files; waits for a thread and the disk.

        Raises:
            WorkspaceError: the folder cannot be written.
        """
        path = PurePosixPath(self.stats_output_path)
        store = FolderStore(folder)
        text, page = await run_to_end(partial(self._rendered, pooled, title))
        try:
            await run_to_end(lambda: (folder / path.parent).mkdir(parents=True, exist_ok=True))
        except OSError as exc:
            problem = exc.strerror or str(exc)
            raise WorkspaceError("stats_output_path", str(path), problem) from exc
        await store.write(str(path), [text.encode(), b"\n"])
        await store.write(str(path.with_suffix(".html")), [page.encode()])

    def _rendered(self, pooled: Pooled, title: str) -> tuple[str, str]:
        document = document_of(pooled, self.precision, self.max_centroids)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        return text, page_of(document, title)
