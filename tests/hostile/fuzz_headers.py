"""Fuzz of safetensors headers against the library: we may be stricter where we say so, never laxer.

Stricter, each with the text of its error: names (empty, long, reserved, control characters, a
folder ``..``, twice), metadata, fields beside the three, numbers that are not plain, zeros beside
overflowing sizes, sizes beyond 2**53, more than 64 dimensions, packed elements, blanks in front.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random
from typing import Final

import safetensors

from flare_async.errors import TensorFormatError
from flare_async.transfer.dtypes import DTYPES
from flare_async.transfer.manifest import Manifest
from flare_async.transfer.spec import TensorSpec
from tests.hostile.fuzz_mutate import BOUNDARIES

__all__ = ["STRICTER", "HeaderFuzz"]

LARGEST: Final = 2**20  # bytes of tensors that are made up for the library to look at
STRICTER: Final = re.compile(
    r"names|characters|reserved|control character|climbs|surrogate|metadata|data_offsets only"
    r"|no whole number|out of bounds|dimensions|exceeds|no whole bytes|unknown dtype"
    r"|begin with a brace"
)
PIECES: Final = (
    *(b"0", b"9", b"-", b".", b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b" ", b"\n", b"\0"),
    *(b"null", b"true", b"NaN", b"1e3", b"\xff", b"\\u0000", b"\\ud800", b"../", b"F32", b"BF16"),
)


class HeaderFuzz:
    """Runs the cases of one seed."""

    name = "headers"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tally: Counter[str] = Counter()

    def case(self, number: int) -> int:
        """Run one case: one mutated header, read by both."""
        dice = Random(f"{self.seed}:header:{number}")
        document = _document(dice)
        if dice.random() < 0.5:
            _edit(dice, document)
        text = json.dumps(document, separators=(",", ":")).encode()
        for _ in range(dice.choice((0, 0, 1, 1, 2))):
            text = _mutated(dice, text)
        length = len(text) if dice.random() < 0.97 else max(0, len(text) + dice.randint(-9, 9))
        self._compare(length.to_bytes(8, "little") + text)
        return 1

    def _compare(self, data: bytes) -> None:
        try:
            manifest = Manifest.parse(data)
        except TensorFormatError as error:
            self._refused(data, str(error))
            return
        self.tally["headers: accepted"] += 1
        if manifest.nbytes > LARGEST:
            self.tally["headers: accepted, too large to compare"] += 1
            return
        found = {
            name: (entry["dtype"], tuple(entry["shape"]), len(entry["data"]))
            for name, entry in safetensors.deserialize(data + bytes(manifest.nbytes))
        }
        ours = {spec.name: (spec.dtype, spec.shape, spec.nbytes) for spec in manifest.specs}
        assert {name: entry[1:] for name, entry in found.items()} == {
            name: entry[1:] for name, entry in ours.items()
        }

    def _refused(self, data: bytes, text: str) -> None:
        self.tally["headers: refused"] += 1
        assert text.isprintable(), text
        assert len(text) < 700, text
        size = _claimed(data)
        if size is None:
            return
        try:
            safetensors.deserialize(data + bytes(size))
        except Exception:  # noqa: BLE001 - the library has errors of several types
            return
        self.tally["headers: refused, the library takes them"] += 1
        assert STRICTER.search(text), f"stricter than documented: {text}"


def _claimed(data: bytes) -> int | None:
    """Return the bytes of tensors that a header claims, as far as that can be told."""
    try:
        document = json.loads(data[8:].decode())
        ends = [entry["data_offsets"][1] for name, entry in document.items() if name[:2] != "__"]
        size = max(ends, default=0)
        return size if type(size) is int and 0 <= size <= LARGEST else None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def _document(dice: Random) -> dict[str, object]:
    names = dice.sample(["w", "b", "layer.0.weight", "ä", "a b", "z" * 40, "0"], dice.randrange(5))
    kinds = [kind for kind in DTYPES if DTYPES[kind].bits % 8 == 0]
    specs = [
        TensorSpec(name, dice.choice(kinds), tuple(dice.choices(range(5), k=dice.randrange(4))))
        for name in names
    ]
    metadata = dice.choice(({}, {}, {"format": "pt"}, {"a": "\n", "b": "x"}))
    made: dict[str, object] = json.loads(Manifest(tuple(specs), metadata).header()[8:])
    return made


def _edit(dice: Random, document: dict[str, object]) -> None:
    entries = [entry for entry in document.values() if isinstance(entry, dict) and "shape" in entry]
    if not entries:
        document[dice.choice(("", "x", "__metadata__"))] = dice.choice(({}, [], None, {"a": 1}))
        return
    entry = dice.choice(entries)
    match dice.randrange(5):
        case 0:
            entry["dtype"] = dice.choice((*DTYPES, "F31", "", None, 7, ["F32"]))
        case 1:
            entry["shape"] = _number_in(dice, entry["shape"])
        case 2:
            entry["data_offsets"] = _number_in(dice, entry["data_offsets"])
        case 3:
            entry.pop(dice.choice(("dtype", "shape", "data_offsets")))
        case _:
            entry["more"] = 1


def _number_in(dice: Random, numbers: list[object]) -> object:
    changed = list(numbers)
    number = dice.choice((*BOUNDARIES[:8], *BOUNDARIES, -1, 0.5, True, None, "1", [1]))
    if changed and dice.random() < 0.8:
        changed[dice.randrange(len(changed))] = number
    else:
        changed.append(number)
    return changed


def _mutated(dice: Random, text: bytes) -> bytes:
    at = dice.randrange(max(1, len(text)))
    match dice.randrange(4):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + dice.choice(PIECES) + text[at:]
        case 2:
            return (
                text[:at]
                + bytes([byte ^ 1 << dice.randrange(8) for byte in text[at : at + 1]])
                + text[at + 1 :]
            )
        case _:
            end = min(len(text), at + dice.randrange(1, 40))
            return text[:end] + text[at:end] + text[end:]
