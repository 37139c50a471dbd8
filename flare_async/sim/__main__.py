"""``python -m flare_async.sim``."""

from __future__ import annotations

from flare_async.sim.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
