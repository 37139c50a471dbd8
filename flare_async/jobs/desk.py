"""What an environment gives a recipe whose sites work with each other, for one of its sites."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from flare_async.jobs.cohort_setting import CohortSetting
from flare_async.ports import Store

__all__ = ["DeskSetting"]


@dataclass(frozen=True, slots=True)
class DeskSetting:
    """One site's place for what it does in the server's stead.

    ``store`` has the site's own files, below ``folder``; ``gate`` bounds how many tasks of this
    process hold a model at once, ``rounds`` says how rounds with peers are run.
    """

    site: str
    folder: Path
    store: Store
    gate: AbstractAsyncContextManager[object]
    rounds: CohortSetting
