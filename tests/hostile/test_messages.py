"""Messages that are not what they should be (B15-B23, B25): refused by name, at little cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgpack
import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import MIB, Limits
from flare_async.roles.messages import OFFER_SCHEMA, TASK_SCHEMA, TaskOffer, TaskResult
from flare_async.transfer.pull import PULL_SCHEMA, TensorRef
from flare_async.wire.frames import Open
from flare_async.wire.head import Kind
from flare_async.wire.scan import scan
from tests.hostile.cost import CountedBytes, refused, traced
from tests.hostile.machines import LIMITS, Victim
from tests.wire.strategies import forged

LARGE = Limits(
    control_bytes=17 * MIB,
    frame_bytes=17 * MIB,
    window_bytes=17 * MIB,
    link_bytes=17 * MIB,
)
PULL = [1, "key", "tensor", 0, 10]
REF = ["owner", "key", 0, bytes(32), 100]
OFFER = [1, "job", "train", 0, 3, 0, 1, REF, None, "committed", {}, None, 0]
RESULT = msgpack.unpackb(  # as it is now: it may have got another field at its end
    TASK_SCHEMA.encode(TaskResult(TensorRef(*REF), "FULL", {"loss": 0.5}, {"weight": 1.0}, 2.0))
)
OPEN = ["topic", b"", 0, False, False, "", 0]

BOMBS = {
    "array32": b"\xdd\xff\xff\xff\xff",
    "map32": b"\xdf\xff\xff\xff\xff",
    "bin32": b"\xc6\xff\xff\xff\xff",
    "str32": b"\xdb\xff\xff\xff\xff",
    "ext32": b"\xc9\xff\xff\xff\xff",
    "array32 in an array": b"\x95\x01\xdd\x7f\xff\xff\xff",
    "100 Mi items": b"\xdd\x06\x40\x00\x00",
}


def decoders(body: bytes) -> list[Callable[[], object]]:
    """Return every way in which a peer's message can be read."""
    return [
        lambda: PULL_SCHEMA.decode(body, LIMITS),
        lambda: OFFER_SCHEMA.decode(body, LIMITS),
        lambda: TASK_SCHEMA.decode(body, LIMITS),
        lambda: Victim().feed(forged(Kind.OPEN, body, place=(1, 0))),
        lambda: Victim().feed(forged(Kind.GOODBYE, body)),
    ]


def all_refuse(body: bytes) -> None:
    """Let each of them refuse a body, at little cost."""
    for read in decoders(body):
        refused(read, RemoteProtocolError)


def with_field(message: list[object], at: int, value: object) -> bytes:
    """Return a message with another value in one place."""
    return bytes(msgpack.packb([*message[:at], value, *message[at + 1 :]]))


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_b16_a_few_bytes_that_announce_billions_allocate_nothing(bomb: bytes) -> None:
    """The peak is that of the refusal, not of what was announced."""
    all_refuse(bomb)
    outcome, peak = traced(lambda: PULL_SCHEMA.decode(bomb, LARGE))
    assert isinstance(outcome, RemoteProtocolError)
    assert peak < 20_000


EMPTY_MAPS = {
    "one array of all": b"\xdd" + (16 * MIB).to_bytes(4, "big") + b"\x80" * (16 * MIB),
    "arrays of fifteen": b"\xdd\x00\x10\x00\x00" + (b"\x9f" + b"\x80" * 15) * MIB,
    "an array in an array": b"\x9f" * 8 + b"\x80" * (16 * MIB),
    "maps side by side": b"\x80" * (16 * MIB),
}


@pytest.mark.parametrize("body", EMPTY_MAPS.values(), ids=EMPTY_MAPS)
def test_b17_sixteen_mebibytes_of_empty_maps_trip_the_item_budget(body: bytes) -> None:
    """At most as many items are looked at as the budget has, and none is built."""
    counted = CountedBytes(body)
    with pytest.raises(RemoteProtocolError):
        scan(counted, LIMITS.control_items, LIMITS.depth)
    assert counted.looks <= 2 * LIMITS.control_items
    refused(lambda: PULL_SCHEMA.decode(body, LARGE), RemoteProtocolError)
    refused(lambda: PULL_SCHEMA.decode(body, LIMITS), RemoteProtocolError, "message_too_long")


def test_b17_a_control_message_of_empty_maps_stays_cheap() -> None:
    """As many as may come in one message at all, and one more."""
    for count in (LIMITS.control_items - 3, LIMITS.control_items + 1, 60_000):
        body = b"\x95\x01\xdc" + count.to_bytes(2, "big") + b"\x80" * count + b"\xa0\x00\x00"
        refused(lambda body=body: PULL_SCHEMA.decode(body, LIMITS), RemoteProtocolError)


@pytest.mark.parametrize("levels", [33, 990, 1000, 1020, 1024, 1025, 4000, 60_000])
def test_b18_deep_nesting_is_refused_and_can_be_logged(levels: int) -> None:
    """In place of the message, of its tag and of each field; ``repr`` could not follow it."""
    nest = b"\x91" * levels + b"\x00"
    for body in (nest, b"\x92" + nest + b"\x00", b"\x95\x01" + nest + b"\xa0\x00\x01"):
        all_refuse(body)
    deep = b"\x95\x01\xa1k\xa1t\x00" + b"\x91" * levels + b"\x00"
    refused(lambda: PULL_SCHEMA.decode(deep, LIMITS), RemoteProtocolError)


def test_b18_the_scanner_draws_the_line_at_the_limit() -> None:
    """Thirty-two levels pass, thirty-three do not, a hundred thousand cost no more."""
    scan(b"\x91" * 32 + b"\x00", 4096, 32)
    for levels in (33, 1025, 100_000):
        counted = CountedBytes(b"\x91" * levels + b"\x00")
        with pytest.raises(RemoteProtocolError, match="32 levels"):
            scan(counted, 4096, 32)
        assert counted.looks == 33


MAPS = {
    "a key twice": b"\x82\xa4loss\xcb" + bytes(8) + b"\xa4loss\xcb" + bytes(8),
    "an int key": b"\x81\x01\xcb" + bytes(8),
    "a bytes key": b"\x81\xc4\x01a\xcb" + bytes(8),
    "a NaN key": b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xcb" + bytes(8),
    "a nil key": b"\x81\xc0\xcb" + bytes(8),
    "an array as a key": b"\x81\x90\xcb" + bytes(8),
    "a map as a key": b"\x81\x80\xcb" + bytes(8),
}


@pytest.mark.parametrize("metrics", MAPS.values(), ids=MAPS)
def test_b19_keys_are_text_and_come_once(metrics: bytes) -> None:
    """In the metrics of a result, which a site chooses freely."""
    parts = [msgpack.packb(part) for part in RESULT]
    body = bytes([0x90 + len(RESULT)]) + b"".join([*parts[:3], metrics, *parts[4:]])
    refused(lambda: TASK_SCHEMA.decode(body, LIMITS), RemoteProtocolError, "bad_message")


EXTS = {
    "fixext of an unknown code": b"\xd4\x05x",
    "a timestamp of 32 bits": b"\xd6\xff\x00\x00\x00\x00",
    "a timestamp with 2**30 nanoseconds": b"\xd7\xff\xff\xff\xff\xfc\x00\x00\x00\x00",
    "a timestamp that overflows": b"\xc7\x0c\xff\x3b\x9a\xca\x00\x7f" + b"\xff" * 7,
    "an ext without bytes": b"\xc7\x00\x05",
    "the reserved byte": b"\xc1",
}


@pytest.mark.parametrize("ext", EXTS.values(), ids=EXTS)
def test_b21_ext_types_are_refused_wherever_they_stand(ext: bytes) -> None:
    """No code is in a table, because there is none."""
    all_refuse(ext)
    all_refuse(b"\x95\x01\xa1k\xa1t\x00" + ext)


@pytest.mark.parametrize("behind", [b"\x00", b"\xc0", b"\x80" * 5000, bytes(60_000)])
def test_b22_bytes_behind_the_message_are_refused(behind: bytes) -> None:
    """The message itself is a good one."""
    for schema, message in ((PULL_SCHEMA, PULL), (OFFER_SCHEMA, OFFER), (TASK_SCHEMA, RESULT)):
        good = msgpack.packb(message)
        schema.decode(good, LIMITS)
        body = good + behind
        refused(lambda s=schema, b=body: s.decode(b, LIMITS), RemoteProtocolError, "bad_message")
    opened = forged(Kind.OPEN, msgpack.packb(OPEN) + behind[:1], place=(1, 0))
    refused(lambda: Victim().feed(opened), RemoteProtocolError)


@pytest.mark.parametrize(
    "tag", ["os.system", "builtins.eval", b"os.system", 0, 99, -1, 2**64 - 1, True, 1.0, None, []]
)
def test_b23_a_tag_that_names_code_is_an_unknown_tag(tag: object) -> None:
    """Tags are small numbers of a closed table; a bool or a float is none of them."""
    for schema, message in ((PULL_SCHEMA, PULL), (OFFER_SCHEMA, OFFER), (TASK_SCHEMA, RESULT)):
        body = with_field(message, 0, tag)
        refused(lambda s=schema, b=body: s.decode(b, LIMITS), RemoteProtocolError, "unknown tag")


@pytest.mark.parametrize("value", [2**63 + 1, 2**64 - 1, -1, True, 1.0, "1", None, [1], math.nan])
def test_b25_a_number_of_another_type_is_refused_with_its_path(value: object) -> None:
    """Huge and negative integers are of the right type: the user of the field bounds them."""
    body = with_field(PULL, 3, value)
    if type(value) is int:
        assert PULL_SCHEMA.decode(body, LIMITS).start == value
    else:
        refused(lambda: PULL_SCHEMA.decode(body, LIMITS), RemoteProtocolError, "PullRequest.start:")
    refused(
        lambda: Victim().feed(forged(Kind.OPEN, with_field(OPEN, 2, value), place=(1, 0))),
        RemoteProtocolError,
        "Open.window" if value != [1] else "levels",
    )


@pytest.mark.parametrize(("at", "path"), [(1, ".job"), (3, ".round_number"), (7, ".model")])
@pytest.mark.parametrize("value", [True, 0.0, [], [1, 2], {"a": 1}, b"bytes"])
def test_b25_each_field_has_one_type(at: int, path: str, value: object) -> None:
    """A float as a round's number, a list as a name, anything as a reference."""
    body = with_field(OFFER, at, value)
    refused(lambda: OFFER_SCHEMA.decode(body, LIMITS), RemoteProtocolError, f"TaskOffer{path}")


@pytest.mark.parametrize("remaining", [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324])
def test_b15_a_time_that_a_peer_names_bounds_no_wait(remaining: float) -> None:
    """``remaining`` is told for information; what a site holds ends with its channel."""
    body = with_field(OFFER, 8, remaining)
    offer = OFFER_SCHEMA.decode(body, LIMITS)
    assert isinstance(offer, TaskOffer)
    assert repr(offer.remaining) == repr(remaining)
    refused(
        lambda: OFFER_SCHEMA.decode(with_field(OFFER, 8, "60s"), LIMITS),
        RemoteProtocolError,
        "TaskOffer.remaining: '60s' is str, not float or None",
    )


HOSTILE_TEXT = {
    "an escape sequence": "\x1b[2J\x1b[31m",
    "a new line": "site-1\nERROR all is lost",
    "NUL": "a\0b",
    "a right-to-left mark": "a\u202eb",
    "a zero-width joiner": "a\u200db",
    "a line separator": "a\u2028b",
    "C1 control": "a\x9bb",
}


@pytest.mark.parametrize("text", HOSTILE_TEXT.values(), ids=HOSTILE_TEXT)
def test_b20_text_that_could_forge_a_line_is_refused_and_never_shown_raw(text: str) -> None:
    """As a topic, as a key of a map, and as a value where something else is due."""
    opened = forged(Kind.OPEN, with_field(OPEN, 0, text), place=(1, 0))
    refused(lambda: Victim().feed(opened), RemoteProtocolError, "Open.topic")
    for at, value in ((3, {text: "x"}), (2, {text: 1}), (4, {text: b"x"}), (5, text)):
        body = with_field(RESULT, at, value)
        error = refused(lambda b=body: TASK_SCHEMA.decode(b, LIMITS), RemoteProtocolError)
        assert str(error).isascii()


@pytest.mark.parametrize(
    "text", [b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xa4\xf5\x80\x80\x80"]
)
def test_b20_bad_utf_8_is_refused(text: bytes) -> None:
    """Invalid bytes, a lone surrogate, an overlong NUL, beyond the last character."""
    all_refuse(b"\x95\x01" + text + b"\xa1t\x00\x01")
    all_refuse(b"\x97" + text + msgpack.packb(OPEN)[7:])


@pytest.mark.parametrize("secret", ["x" * 50_000, b"s3cret-token" * 1000, ["s3cret"], {"k": "s3"}])
def test_b15_b20_errors_say_what_is_wrong_and_not_what_was_sent(secret: object) -> None:
    """At most sixty characters of text, nothing from inside bytes or containers."""
    for at in (3, 4):
        body = with_field(PULL, at, secret)
        error = refused(lambda b=body: PULL_SCHEMA.decode(b, LIMITS), RemoteProtocolError)
        assert "s3" not in str(error)
        assert len(str(error)) < 200


def test_a_topic_that_may_travel_arrives() -> None:
    """The rules refuse nothing that a person would write."""
    (event,) = Victim().take(Open(1, "Zürich, site 7"))
    assert event.topic == "Zürich, site 7"
