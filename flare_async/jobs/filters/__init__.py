"""Where filters run: at sites around their work, at the server around a round.

The filters themselves are in ``flare_async.transfer.filters``. A chain is applied to sources, so
that what is computed cell by cell is computed when it is sent, or staged.
"""

from __future__ import annotations

__all__: list[str] = []
