"""The protocol, without a clock and without I/O: theory of operation.

**Frames.** A link carries frames, and each side's first one is a Hello: version, name, session and
the credit that every channel opened towards it begins with. Ping and Pong show that a silent link
lives, Goodbye ends it in order. The others belong to a channel: Open, Data, Ack, Reset. On a byte
transport a frame is a 24-byte head with a checksum of its own, then a short body with another one
or bare payload, which digests cover. Nothing damaged is parsed. Whatever a head claims is checked
before memory is allocated for it, and a length that lies costs at most 64 KiB. ``encode`` never
copies a payload, and ``Decoder`` reads one straight into memory that the application has leased.
Memory links skip the codec and hand frames over.

**Channels.** Ids are odd from the connecting side and even from the accepting one, each the next of
its side and used once. So "was closed" and "was never opened" can be told apart by one number: the
first is a race and ignored, the second an error. Each direction is a stream of bytes at absolute
offsets, ended by an end frame whose trailer (a digest, mostly) travels behind the last byte. A
Reset from either side drops both directions at once.

**Credit.** A sender may send up to the limit that the receiver named. An Ack carries two absolute
positions: bytes *consumed by the application*, and the new limit. Absolute, so that a newer Ack
replaces an older one and only the newest of a channel ever waits. An Ack is due after a quarter of
the window, after a second, and whenever nothing is left to consume: a sender judges by Acks whether
its peer is alive, and the last bytes of a burst must not wait for the next one. When everything was
consumed, the end frame included, the final Ack closes the credit: its limit is the total itself.
Credit of unleased channels is drawn from a budget; a growing window takes at most half of what is
left, a channel opened while nothing is left gets its credit when some returns, and a peer's Open
that the budget cannot honour is refused. Bytes that arrive in leased memory count as consumed on
arrival and draw nothing; one byte more than that memory holds resets the channel. Credit that one
session returns to a shared budget wakes the others whose channels wait for some.

**Lanes.** Control frames leave first, then acknowledgements, then the data of urgent channels, then
bulk data, channel by channel in turn, one bounded frame each. So the delay of a control message is
bounded by one bulk frame, whatever else is queued.

**Life of a channel.** ``open`` queues the Open, and data may be queued at once; nothing but our
Hello leaves before the peer's Hello is in hand. ``send`` queues references, ``frames_to_send`` cuts
them into frames as credit allows, ``consume`` gives credit back. When both directions have ended
and both final Acks are known, the machine reports ``Finished`` and forgets the channel.

**Links of a session.** A session can outlive its link. On the next one, whose Hello names the same
session and a higher epoch, each side's first frame is a Resume: the id that it opens next, the id
that it expects next, and for each channel that it has open what it has received. Each then goes
on behind what the other has received, so nothing is sent twice but what was under way. Whatever
else the dead link has swallowed is made anew from state, never from a log: Opens that never
arrived (of those that were reset meanwhile only the gap in the ids is left), positions of every
direction that has moved, and for a channel that only the other side still has, how it ended. For
that a resumable machine keeps references to what was framed until it is acknowledged, and the last
words of as many closed channels as may be open; a Pong proves them heard.

**Budgets.** What is cheap to send and not to receive is counted by token buckets in ``budgets``:
opens, resets (also those that a peer provokes), pings, Acks that acknowledge nothing, frames of
closed channels and of unknown types, data in crumbs, links. They outlive links: a new one brings no
more than what a resumed session says again, once for each open channel. Frames that are handed over
by reference come from within the process and are not counted.

**The machine.** ``SessionMachine`` plays both sides. ``receive`` takes one frame and returns
events, commands change the state, ``frames_to_send`` says what is to leave. It never waits, never
reads a clock (the time is an argument) and never logs. What the peer does wrong is a
``RemoteProtocolError``, after which the link is closed; what the caller does wrong is a
``LocalProtocolError``.
"""

from __future__ import annotations

__all__: list[str] = []
