"""What sites log, from their code into the run.

Theory of operation
===================

``values`` makes a record of whatever a script or a train function logs, in the thread where it is
logged. Records cross threads through the ``post`` and processes through ``travel``; then they are
the feed's of the site (``roles/log_feed.py``), which sends them to the server. There the
``keeper`` makes ``rows`` of them: in memory, in ``metrics.jsonl``, and for the trackers.
"""

from __future__ import annotations

__all__: list[str] = []  # a script imports ``values`` and nothing else of it
