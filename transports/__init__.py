"""Transports: one scheme a file, each turning a connection into a ``flare_async.net.link.Link``.

A transport moves frames and translates errors, nothing else: credit, resumption and time-outs
belong to the session above it. ``flare_async.net.registry`` imports the module of a scheme when an
address first names it, so nothing is exported here.
"""

from __future__ import annotations

__all__: list[str] = []
