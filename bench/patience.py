"""Limits of processes that a bench blocks or stops on purpose."""

from __future__ import annotations

from typing import Final

from flare_async.limits import Limits

__all__ = ["PATIENT"]

# A raw run blocks the loop for as long as it takes, and a stopped reader stays stopped while others
# are measured: neither may be taken for a loss.
PATIENT: Final = Limits(
    heartbeat_interval=60.0, send_timeout=300.0, stall_timeout=300.0, session_grace=600.0
)
