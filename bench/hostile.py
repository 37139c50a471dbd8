"""What one bad input costs: ``python -m bench.hostile [--json]``.

Each input is refused; the time is the median of several tries, the memory the most that was traced
at once. FAULTS' bound is 1 MB and 10 ms, and 50 ms for sixteen mebibytes of empty maps (B17).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.table import Report, Row
from flare_async.errors import FlareError
from flare_async.limits import MIB, Limits
from flare_async.transfer.manifest import Manifest
from flare_async.transfer.pull import PULL_SCHEMA
from flare_async.wire.codec import Decoder
from flare_async.wire.schema import Schema

__all__ = ["INPUTS", "main"]

LIMITS: Final = Limits()
LARGE: Final = Limits(
    control_bytes=17 * MIB, frame_bytes=17 * MIB, window_bytes=17 * MIB, link_bytes=17 * MIB
)
BOUND_MS: Final = {"B17 16 MiB of empty maps": 50.0}
USUAL_MS: Final = 10.0
USUAL_BYTES: Final = 1e6


def _message(body: bytes, limits: Limits = LIMITS) -> Callable[[], object]:
    schema: Schema[object] = PULL_SCHEMA
    return lambda: schema.decode(body, limits)


def _header(text: bytes) -> Callable[[], object]:
    data = len(text).to_bytes(8, "little") + text
    return lambda: Manifest.parse(data)


def _stranger(data: bytes) -> Callable[[], object]:
    return lambda: Decoder(limits=LIMITS).feed(data)


def _empty_tensors(count: int) -> bytes:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return json.dumps({f"{at:06x}": entry for at in range(count)}, separators=(",", ":")).encode()


EMPTY_MAPS: Final = b"\xdd" + (16 * MIB).to_bytes(4, "big") + b"\x80" * (16 * MIB)
MANY_MAPS: Final = b"\x95\x01\xdc\x0f\xf0" + b"\x80" * 0x0FF0 + b"\xa0\x00\x00"
INPUTS: Final[Mapping[str, Callable[[], object]]] = {
    "B01 an HTTP request": _stranger(b"GET / HTTP/1.1\r\n\r\n"),
    "B16 an array32 of 2**32-1": _message(b"\xdd\xff\xff\xff\xff"),
    "B17 16 MiB of empty maps": _message(EMPTY_MAPS, LARGE),
    "B17 as many empty maps as may come": _message(MANY_MAPS),
    "B18 60,000 levels": _message(b"\x91" * 60_000),
    "B18 1,020 levels": _message(b"\x95\x01" + b"\x91" * 1020 + b"\xa0\x00\x00\x00"),
    "B26 a million empty tensors": _header(_empty_tensors(1_000_000)),
    "B26 a header of 2**63": lambda: Manifest.parse((2**63).to_bytes(8, "little")),
    "B27 a hole": _header(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--times", type=int, default=9, help="tries of each input (9)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    rows = [row for name in INPUTS for row in rows_of(name, max(1, options.times))]
    Report("hostile", rows).show(as_json=options.json)


def rows_of(name: str, times: int) -> list[Row]:
    """Return time and memory of one input."""
    call = INPUTS[name]
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        refusal(call)
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    error = refusal(call)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    spent = Row(name, f"refused as {error.code}", statistics.median(seconds) * 1e3, "ms")
    return [
        spent.against("target, below", BOUND_MS.get(name, USUAL_MS)),
        Row(name, "traced peak", peak, "B").against("target, below", USUAL_BYTES),
    ]


def refusal(call: Callable[[], object]) -> FlareError:
    """Return the error that a call raises; an input that is taken is a mistake of this bench."""
    try:
        call()
    except FlareError as error:
        return error
    raise SystemExit("a bad input was taken")


if __name__ == "__main__":
    main()
