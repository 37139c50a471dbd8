"""The peers' virtual environments: made once in a folder, and used again from there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "python_of", "versions_in"]

PACKAGES: Final = {
    "nvflare": ["nvflare==2.7.2"],
    "flower": ["flwr[simulation]==1.41.0"],
    "pfl": ["pfl==0.6.0", "torch==2.13.0"],
}
TOLD: Final = {
    "nvflare": ("nvflare", "numpy"),
    "flower": ("flwr", "ray", "numpy"),
    "pfl": ("pfl", "torch", "numpy"),
    "ours": ("flare-async", "numpy", "torch", "anyio", "uvloop"),
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


def versions_in(peer: str, folder: Path) -> dict[str, str]:
    """Return Python's version and those of what was measured with; ours is what this runs in.

    Empty where there is no environment, which the runs have told already.
    """
    code = (
        "import importlib.metadata as m, json, platform, sys; "
        "found = {n: m.version(n) for n in sys.argv[1:]}; "
        "print(json.dumps({'Python': platform.python_version(), **found}))"
    )
    try:
        python = Path(sys.executable) if peer == "ours" else python_of(peer, folder)
        command = [str(python), "-c", code, *TOLD[peer]]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
