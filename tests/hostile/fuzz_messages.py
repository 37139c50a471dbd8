"""Fuzz of messages in msgpack: what peers send over channels, and a worker to its parent."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

import msgpack

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.spawners import messages as worker
from flare_async.limits import Limits
from flare_async.roles.messages import OFFER_SCHEMA, TASK_SCHEMA
from flare_async.transfer.pull import PULL_SCHEMA
from flare_async.wire.packing import unpack
from flare_async.wire.scan import scan
from flare_async.wire.schema import Schema
from tests.hostile.fuzz_mutate import mutate_body

__all__ = ["MessageFuzz"]

LIMITS: Final = Limits()
REF: Final = ["owner", "0" * 32, 3, bytes(32), 4096]
GOOD: Final[tuple[tuple[Schema[object], list[object]], ...]] = (
    (PULL_SCHEMA, [1, "0" * 32, "layer.0.weight", 0, 4096]),
    (OFFER_SCHEMA, [1, "job", "train", 0, 3, 0, 1, REF, 60.0, "committed", {"a": 1, "b": None}]),
    (TASK_SCHEMA, [1, REF, "FULL", {"loss": 0.5, "acc": 1.0}, {"w": 1.0, "s": "x"}, 2.0, {}]),
    (TASK_SCHEMA, [1, None, "DIFF", {}, {}, 0.0, {"loss": 0.1}]),
    (TASK_SCHEMA, [2, "ValueError: no", "Traceback ..."]),
    (TASK_SCHEMA, [3, "committed", ""]),
)
SITE: Final = ["site-1", 0, 2, "job", 7, 0, 3, {"lr": 0.1, "deep": [1, {"a": [None]}]}]
WORKER: Final = (
    ["setup", ["a", "b"], None],
    ["train", ["job.py", "train", "", [1, "a"], {"k": 2}], "numpy", SITE, {"m": 1}, 3,
     [["w", "F32", [2, 3]], ["b", "F32", [3]]], {}, "train"],
    ["done", "FULL", {"loss": 0.5}, {"m": True}, 1.5, {}],
    ["failed", "problem", "details"],
)  # fmt: skip


class MessageFuzz:
    """Runs the cases of one seed."""

    name = "messages"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tally: Counter[str] = Counter()

    def case(self, number: int) -> int:
        """Run one case: one mutated message through every reader that may get it."""
        dice = Random(f"{self.seed}:message:{number}")
        kind = dice.random()
        if kind < 0.6:
            schema, message = dice.choice(GOOD)
            self._peers(schema, self._mutated(dice, message))
        elif kind < 0.8:
            self._workers(self._mutated(dice, dice.choice(WORKER)))
        else:
            self._scanned(dice.randbytes(dice.choice((1, 5, 40, 300))))
        return 1

    def _mutated(self, dice: Random, message: list[object]) -> bytes:
        body: bytes = msgpack.packb(message)
        for _ in range(dice.choice((1, 1, 2, 3))):
            body = mutate_body(dice, body)
        self.tally["messages: mutated"] += 1
        return body

    def _peers(self, schema: Schema[object], body: bytes) -> None:
        try:
            message = schema.decode(body, LIMITS)
        except RemoteProtocolError as error:
            self._refused(error)
            return
        self.tally["messages: accepted"] += 1
        again = schema.encode(message)
        assert schema.encode(schema.decode(again, LIMITS)) == again

    def _workers(self, body: bytes) -> None:
        try:
            message = worker.decode(body)
        except RemoteProtocolError as error:
            self._refused(error)
            return
        self.tally["messages: accepted"] += 1
        again = worker.encode(message)[worker.PREFIX :]
        assert worker.encode(worker.decode(again))[worker.PREFIX :] == again

    def _scanned(self, body: bytes) -> None:
        try:
            scan(body, LIMITS.control_items, LIMITS.depth)
            unpack(body)
        except RemoteProtocolError as error:
            self._refused(error)
            return
        self.tally["messages: accepted"] += 1

    def _refused(self, error: RemoteProtocolError) -> None:
        self.tally["messages: refused"] += 1
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 700, str(error)
