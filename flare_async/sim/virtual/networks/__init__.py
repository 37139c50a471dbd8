"""Network profiles: those that come with the package, and files of one's own.

A profile is TOML with a table for each direction, ``up`` (what a site sends) and ``down``. Latency
is that of one direction. Sites differ: a twentieth has a latency beyond ``p95``, a twentieth a
bandwidth below ``p5``; a plain number is the same for all.
"""

from __future__ import annotations

from flare_async.sim.virtual.networks.read import NETWORKS, read_profile
from flare_async.sim.virtual.networks.write import profile_text

__all__ = ["NETWORKS", "profile_text", "read_profile"]
