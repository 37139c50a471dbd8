"""The peers' virtual environments: made once in a folder, and used again from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "python_of"]

PACKAGES: Final = {"nvflare": ["nvflare==2.7.2"], "flower": ["flwr[simulation]==1.41.0"]}


def python_of(peer: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made when it is not there.

    NumPy is all that the exchange needs: neither brings torch.

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
