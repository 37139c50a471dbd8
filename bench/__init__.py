"""Measurements, one module each: ``python -m bench.NAME``, with ``--json`` for one document.

Every claim of speed stands beside its reference, measured in the same run: absolute times of one
machine say little, ratios carry over. What is compared alternates, medians are reported, and each
process that is measured is a fresh one.

- ``bench.latency``: how long a control message takes under bulk and beside a stalled reader
- ``bench.throughput``: bulk bytes between two processes, over every transport
- ``bench.fanout``: what one connection of thousands costs in time and memory
- ``bench.relay``: what a relay holds and what its server gives, one process a role
- ``bench.rounds``: what a round costs when nobody trains
- ``bench.algorithms``: accuracy of five algorithms on unlike sites, with hyper-parameters of a grid
- ``bench.recipe_memory``: what a server holds under each recipe, in copies of the model
- ``bench.startup``: importing the package and asking for help, beside ``python -c pass``
"""

from __future__ import annotations

__all__: list[str] = []
