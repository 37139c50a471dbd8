"""A site's part of what travels with tasks and results: the model in, the update out."""

from __future__ import annotations

from flare_async.errors import RemoteProtocolError
from flare_async.net.session import Session
from flare_async.roles.messages import TaskOffer, TaskResult
from flare_async.roles.stream import TaskStream
from flare_async.transfer.carried import Carried, carried_digest, carried_views
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.shelf import Offer
from flare_async.transfer.sink import TensorSink

__all__ = ["bring_model", "digest_of", "send_result"]


async def bring_model(
    downloader: Downloader, stream: TaskStream, session: Session, offer: TaskOffer, sink: TensorSink
) -> None:
    """Fill ``sink`` with a task's model: from behind the task, or by a pull from ``session``.

    Waits while bytes arrive, bounded by ``stall_timeout`` without any. Failing or being cancelled
    discards the sink.

    Raises:
        FlareError: as ``Downloader.fetch``, or what follows the task is not the model.
    """
    if offer.carried is None:
        await downloader.fetch(session, offer.model, sink)
        return
    nbytes, most = offer.model.nbytes, stream.channel.session.limits.carried_bytes
    if nbytes > most:
        raise RemoteProtocolError("unexpected", f"{nbytes} bytes follow a task, {most} may")
    chunks = await stream.carried(nbytes)
    await downloader.take(session, offer.model, sink, Carried(chunks, offer.carried))


def digest_of(held: Offer | None, offer: TaskOffer, session: Session) -> bytes | None:
    """Return the digest of an update that is to follow its result, None for one that is pulled."""
    if held is None or not 0 < held.ref.nbytes <= min(offer.takes, session.limits.carried_bytes):
        return None
    return carried_digest(held, by_reference=session.link.by_reference)


def send_result(stream: TaskStream, message: TaskResult, held: Offer | None) -> None:
    """Send a site's last word on its task, and the update behind it where the message says so.

    Raises:
        FlareError: the channel has failed.
    """
    if held is None or message.carried is None:
        stream.post_last(message)
        return
    views = carried_views(held, by_reference=stream.channel.session.link.by_reference)
    stream.channel.send_all([stream.framed(message), *views], last=True)
    held.served[stream.channel.peer] += held.ref.nbytes
