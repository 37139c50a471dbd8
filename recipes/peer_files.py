"""What a simulated run shows of its sites' files: one site's models, which all have."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from flare_async.errors import WorkspaceError
from flare_async.jobs.run import BEST_MODEL, GLOBAL_MODEL, Run
from flare_async.recipes.cross_site import FOLDER, RESULTS
from flare_async.transfer.files import read_file

__all__ = ["collected"]


def collected(run: Run, sites: Sequence[str]) -> None:
    """Copy what the first site that has them keeps into the run's folder, and read the model.

    That is for who looks at a simulation, whose sites' folders lie in the run's own: a server has
    nobody's files.

    Raises:
        WorkspaceError: a file cannot be copied.
        TensorFormatError: it is no model.
    """
    for name in (GLOBAL_MODEL, BEST_MODEL, f"{FOLDER}/{RESULTS}"):
        found = [run.folder / site / name for site in sites]
        path = next((path for path in found if path.exists()), None)
        if path is not None:
            _copy(path, run.folder / name)
    if (run.folder / GLOBAL_MODEL).exists():
        run.model = read_file(run.folder / GLOBAL_MODEL)


def _copy(path: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    except OSError as exc:
        problem = exc.strerror or str(exc)
        raise WorkspaceError("workspace", str(target), problem, "choose another folder") from exc
