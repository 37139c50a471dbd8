"""Federations of the real roles on simulated ports, and what they leave behind as evidence."""

from __future__ import annotations

from flare_async.testing.federation.evidence import Evidence
from flare_async.testing.federation.incidents import (
    Apart,
    Crash,
    CutLinks,
    GiveUp,
    Incident,
    Leave,
    Pry,
    Replay,
    StandStill,
)
from flare_async.testing.federation.play import Federation
from flare_async.testing.federation.setting import SERVER, SMALL, Mode, Setting

__all__ = [
    "SERVER",
    "SMALL",
    "Apart",
    "Crash",
    "CutLinks",
    "Evidence",
    "Federation",
    "GiveUp",
    "Incident",
    "Leave",
    "Mode",
    "Pry",
    "Replay",
    "Setting",
    "StandStill",
]
