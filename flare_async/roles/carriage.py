"""What travels with a task and with its result: a small model, and the credit for its update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flare_async.hot_value import hot_value
from flare_async.net.session import Session
from flare_async.transfer.carried import carried_digest

if TYPE_CHECKING:
    from flare_async.roles.setting import RoundSetting

__all__ = ["PULLED", "Carriage", "carriage_of"]


@hot_value(frozen=True, slots=True)
class Carriage:
    """``model`` is the digest of the model that follows its task, None where it is pulled.

    ``takes`` bytes of tensors may follow the result.
    """

    model: bytes | None
    takes: int


PULLED: Final = Carriage(None, 0)


def carriage_of(setting: RoundSetting, session: object) -> Carriage:
    """Return what travels with a task to a site.

    The model if the site's hello has credit for it, the update if ours may be promised: each
    promise leaves half of the budget to others, and whoever gets none is pulled from. Behind a
    relay everything is pulled, because that is what a relay caches and adds.
    """
    nbytes, limits = setting.offer.ref.nbytes, setting.server.context.limits
    if type(session) is not Session or not 0 < nbytes <= limits.carried_bytes:
        return PULLED
    machine, model = session.machine, None
    if machine.may_carry(nbytes):
        model = carried_digest(setting.offer, by_reference=session.link.by_reference)
    takes = nbytes if setting.task.wants_update and machine.may_promise(nbytes) else 0
    return Carriage(model, takes)
