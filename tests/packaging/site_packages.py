"""Prints what stands in site-packages, or checks what an installation added to it.

``python site_packages.py`` prints the names; ``python site_packages.py --before NAMES`` fails
unless ``flare_async`` and its metadata are all that came since.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

__all__ = ["added", "main"]


def added(before: set[str], now: set[str]) -> set[str]:
    """Return the names that came, without the version in the metadata's name."""
    return {
        name if "-" not in name else name.partition("-")[0] + ".dist-info" for name in now - before
    }


def main(arguments: list[str]) -> int:
    """Print the names, or compare; return 1 where more or less than the package came."""
    now = {entry.name for entry in Path(sysconfig.get_path("purelib")).iterdir()}
    if arguments[:1] != ["--before"]:
        sys.stdout.write(" ".join(sorted(now)) + "\n")
        return 0
    came = added(set(" ".join(arguments[1:]).split()), now)
    if came == {"flare_async", "flare_async.dist-info"}:
        return 0
    sys.stdout.write(f"site-packages gained {sorted(came)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
