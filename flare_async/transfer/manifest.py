"""The header of a safetensors file, written and read: which tensors follow, and where.

Reading trusts nothing: anything that the safetensors library refuses is refused here too, and so
are duplicate names, unknown fields, numbers that are no plain integers, and gaps. Whatever the
bytes, the only error is TensorFormatError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, Self

from flare_async.errors import TensorFormatError
from flare_async.limits import MIB
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.spec import RESERVED_NAME, TensorSpec, check_layout
from flare_async.wire.fields import shown

__all__ = ["ALIASES_KEY", "Manifest", "tied_text"]

ALIASES_KEY: Final = "aliases"  # of the metadata: a JSON object, tied name to first name
_PREFIX: Final = 8  # the header's length, little-endian
_ALIGNMENT: Final = 8
_FIELDS: Final = frozenset({"dtype", "shape", "data_offsets"})
_BLANKS: Final = b" \t\n\r"
_MAX_DIGITS: Final = 19  # of a number; 2**63 has as many


@dataclass(frozen=True, slots=True)
class Manifest:
    """Tensors of one file, in the order in which their bytes follow the header, and free text.

    Specs are sorted into the format's own order, wide element types first and then by name,
    unless they are ``placed`` already: other writers may have another order.

    Raises:
        TensorFormatError: a name comes twice.
    """

    specs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    placed: bool = field(default=False, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        check_layout(self.specs, {})
        if not self.placed:
            ordered = sorted(self.specs, key=lambda s: (-dtype_of(s.dtype).rank, s.name))
            object.__setattr__(self, "specs", tuple(ordered))

    @property
    def offsets(self) -> dict[str, tuple[int, int]]:
        """Where each tensor's bytes begin and end, counted from the end of the header."""
        found: dict[str, tuple[int, int]] = {}
        end = 0
        for spec in self.specs:
            begin, end = end, end + spec.nbytes
            found[spec.name] = (begin, end)
        return found

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, without the header."""
        return sum(spec.nbytes for spec in self.specs)

    def header(self) -> bytes:
        """Return the length and the JSON text, padded to eight bytes, as safetensors writes them.

        Raises:
            TensorFormatError: metadata is no text.
        """
        document: dict[str, object] = {}
        if self.metadata:
            document[RESERVED_NAME] = _checked_metadata(dict(sorted(self.metadata.items())))
        offsets = self.offsets
        for spec in self.specs:
            document[spec.name] = {
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                "data_offsets": list(offsets[spec.name]),
            }
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(_PREFIX, "little") + text

    @classmethod
    def parse(
        cls, data: bytes | memoryview, *, max_bytes: int = MIB, max_tensors: int = 100_000
    ) -> Self:
        """Return the manifest of exactly one header, length prefix included.

        Raises:
            TensorFormatError: the bytes are no header, or one beyond the bounds.
        """
        document = _document(data, max_bytes)
        metadata = _checked_metadata(document.pop(RESERVED_NAME, {}))
        if len(document) > max_tensors:
            raise TensorFormatError(f"header: {len(document)} tensors, {max_tensors} allowed")
        return cls(_placed(document), metadata, placed=True)


def tied_text(aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that says which names are tied to which; none if there are none."""
    return {ALIASES_KEY: json.dumps(dict(aliases), sort_keys=True)} if aliases else {}


def _document(data: bytes | memoryview, max_bytes: int) -> dict[str, object]:
    size = len(data)
    if size < _PREFIX:
        raise TensorFormatError(f"header: {size} bytes, the length alone has {_PREFIX}")
    length = int.from_bytes(data[:_PREFIX], "little")
    if length > max_bytes:
        raise TensorFormatError(f"header: {length} bytes, {max_bytes} allowed")
    if size != _PREFIX + length:
        raise TensorFormatError(f"header: {size - _PREFIX} bytes, its length says {length}")
    text = bytes(data[_PREFIX:])
    if not text.startswith(b"{"):
        raise TensorFormatError("header: does not begin with a brace")
    try:
        document = json.loads(
            text.decode(),
            object_pairs_hook=_unique,
            parse_int=_plain_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as exc:
        raise TensorFormatError(f"header: no JSON text ({exc})") from exc
    if not isinstance(document, dict):
        raise TensorFormatError("header: no JSON object")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TensorFormatError(f"header: {len(pairs)} fields have {len(found)} names")
    return found


def _plain_integer(text: str) -> int:
    if len(text) > _MAX_DIGITS or text.startswith("-"):
        raise TensorFormatError(f"header: the number {text[:40]} is out of bounds")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise TensorFormatError(f"header: {text[:40]} is no whole number")


def _checked_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TensorFormatError(f"header: metadata is {type(value).__name__}, no object")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TensorFormatError(f"header: metadata {key!r:.40} is no text")
        if not _encodable(key) or not _encodable(text):
            raise TensorFormatError(f"header: metadata {key!r:.40} has a lone surrogate")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _placed(document: Mapping[str, object]) -> tuple[TensorSpec, ...]:
    found = [(*_entry(name, entry), name) for name, entry in document.items()]
    found.sort(key=lambda item: item[:2])  # stable: empty tensors keep the header's order
    at = 0
    for begin, end, spec, name in found:
        if begin != at:
            kind = "overlaps the one before" if begin < at else "leaves a hole"
            raise TensorFormatError(f"tensor {name!r}: begins at {begin}, {kind} ({at})")
        if end - begin != spec.nbytes:
            raise TensorFormatError(
                f"tensor {name!r}: {end - begin} bytes, {spec.describe()} has {spec.nbytes}"
            )
        at = end
    return tuple(spec for _, _, spec, _ in found)


def _entry(name: str, entry: object) -> tuple[int, int, TensorSpec]:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise TensorFormatError(f"tensor {name[:40]!r}: needs dtype, shape and data_offsets only")
    spec = TensorSpec.checked(name, entry["dtype"], entry["shape"])
    bounds = entry["data_offsets"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise TensorFormatError(f"tensor {name!r}: data_offsets is no pair")
    begin, end = bounds
    if not isinstance(begin, int) or not isinstance(end, int) or begin > end:
        raise TensorFormatError(
            f"tensor {name!r}: data_offsets {shown(begin)} to {shown(end)} are no range"
        )
    if isinstance(begin, bool) or isinstance(end, bool):
        raise TensorFormatError(
            f"tensor {name!r}: data_offsets {shown(begin)} to {shown(end)} are no range"
        )
    return begin, end, spec
