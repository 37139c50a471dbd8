"""Simulation: the environment inside one process, and the command line that shows it.

``SimEnv`` (``flare_async.sim.env``) runs recipes with simulated sites;
``python -m flare_async.sim`` runs a job with it, watches it, and leaves a report.
"""

from __future__ import annotations

__all__: list[str] = []
