"""The one place that calls msgpack, which has no types of its own."""

from __future__ import annotations

from typing import cast

import msgpack

from flare_async.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["pack", "unpack"]


def pack(value: object) -> bytes:
    """Return value as msgpack.

    Raises:
        LocalProtocolError: the value cannot be packed (text with lone surrogates, a huge integer).
    """
    try:
        return cast("bytes", msgpack.packb(value, use_bin_type=True))
    except (ValueError, TypeError, OverflowError) as error:
        raise LocalProtocolError(f"cannot be packed: {error}") from error


def unpack(data: bytes) -> object:
    """Return the one value in data: maps have text keys, each once; nothing follows it.

    Sizes inside data never exceed ``len(data)``, whatever they claim. Bounding the number of items
    and the depth is the caller's part (``scan``).

    Raises:
        RemoteProtocolError: data is not one such value.
    """
    try:
        value: object = msgpack.unpackb(
            data, raw=False, object_pairs_hook=_unique, max_ext_len=0, ext_hook=_no_ext
        )
    except RemoteProtocolError:
        raise
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteProtocolError("bad_message", f"not msgpack: {type(error).__name__}") from error
    return value


def _unique(pairs: list[tuple[object, object]]) -> dict[object, object]:
    if not pairs:
        return {}
    found = dict(pairs) if _all_text(pairs) else {}
    if len(found) != len(pairs):
        raise RemoteProtocolError("bad_message", f"a map repeats one of its {len(pairs)} keys")
    return found


def _all_text(pairs: list[tuple[object, object]]) -> bool:
    for key, _ in pairs:
        if type(key) is not str:
            raise RemoteProtocolError("bad_message", f"a map key is {type(key).__name__}, not str")
    return True


def _no_ext(code: int, data: bytes) -> object:
    raise RemoteProtocolError("bad_message", f"ext type {code} is not allowed")
