"""Measurements, one module each: ``python -m bench.NAME``, with ``--json`` for one document.

Every claim of speed stands beside its reference, measured in the same run: absolute times of one
machine say little, ratios carry over. What is compared alternates, medians are reported, and each
process that is measured is a fresh one.

- ``bench.rounds``: what a round costs when nobody trains
- ``bench.throughput``: bulk bytes between two processes, beside raw blocking sockets
- ``bench.startup``: importing the package and asking for help, beside ``python -c pass``
"""

from __future__ import annotations

__all__: list[str] = []
