"""Sessions and channels: the pure rules of ``flare_async.wire`` with a clock and a connection.

Theory of operation
===================

A **link** (one connection, made by a transport) pushes the frames of one read into its session,
synchronously. The **session** lets the pure machine judge them and hands the resulting events to
the channels; nothing on this path waits, so a slow consumer can never hold up a read, and no queue
stands between reading and acting. A **channel** is a byte stream in each direction with credit that
its receiver grants: what the receiver has not consumed is what the sender may not exceed.

Departure works the other way round. Whoever has something to send queues *references* in the
machine and calls ``flush``: frames leave at once while the link is writable. Only when it is not,
the session's one pump task waits for the link. Control frames leave before bulk, bulk leaves
round-robin between channels, one frame a turn, so that a write buffer never holds more than about a
frame of somebody else's data in front of a control frame.

Every wait here parks one bare future. The state that it waits for lives in the machine or in a
deque, never in the future, so cancelling a waiter loses nothing. The **watchdog** fails a parked
future when the channel's or link's progress timestamp has not moved for the stated patience;
nothing else times a transfer.
"""

from __future__ import annotations

__all__: list[str] = []
