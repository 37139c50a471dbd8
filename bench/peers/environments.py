"""The peers' virtual environments: made once in a folder, and used again from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "python_of", "version_of"]

PACKAGES: Final = {
    "nvflare": ["nvflare==2.7.2"],
    "flower": ["flwr[simulation]==1.41.0"],
    "pfl": ["pfl==0.6.0", "torch==2.13.0"],
}


def python_of(peer: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made when it is not there.

    NumPy is all that the exchange needs; only pfl cannot do without torch.

    Raises:
        subprocess.CalledProcessError: it cannot be made; pip's messages went to standard error.
    """
    home = folder / peer
    python = home / "bin" / "python"
    done = home / "complete"
    if not done.exists():
        run = [sys.executable, "-m", "venv", str(home)]
        subprocess.run(run, check=True, stdout=sys.stderr)
        install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES[peer]]
        subprocess.run(install, check=True, stdout=sys.stderr)
        done.touch()
    return python


def version_of(peer: str, folder: Path) -> str:
    """Return what is installed in a peer's environment, as ``name version``; ours is this tree."""
    name = PACKAGES[peer][0].partition("==")[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    command = [str(python_of(peer, folder)), "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return f"{name} {done.stdout.strip()}"
