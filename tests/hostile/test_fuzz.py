"""A hundred thousand mutated frames, messages and headers: typed errors only, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors

from flare_async.errors import TensorFormatError
from flare_async.transfer.manifest import Manifest
from flare_async.wire import inbound
from flare_async.wire.frames import Ack
from tests.hostile.fuzz import Finding, Fuzzer, fuzz, replay
from tests.hostile.fuzz_headers import STRICTER, HeaderFuzz
from tests.hostile.fuzz_sessions import SessionFuzz

ROOT = Path(__file__).parents[2]
FRAMES = 100_000

CHECK_OF_THE_WATCH = """
import marshal, socket, sys, os, tempfile
from tests.hostile.fuzz import Watch
watch = Watch()
open(os.devnull, "rb").close()
with watch:
    open(os.devnull, "rb").close()
    assert watch.seen == [], watch.seen
    open(os.devnull, "w").close()
    compile("1", "x", "eval")
    exec("import tabnanny")
    marshal.loads(marshal.dumps(1))
    socket.socket().close()
found = {entry.split()[0] for entry in watch.seen}
assert found >= {"open", "compile", "exec", "import", "marshal.loads", "socket.__new__"}, found
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own: an audit hook cannot be removed."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_frames_give_typed_errors_only() -> None:
    """Most are from mutated sessions, many are accepted, memory does not grow, nothing runs."""
    done = python("-m", "bench.fuzz", "--frames", str(FRAMES), "--json")
    assert done.returncode == 0, done.stderr
    value = {row["metric"]: row["value"] for row in json.loads(done.stdout)["rows"]}
    assert value["frames judged"] >= FRAMES
    assert value["share of cases from valid sessions"] >= 0.5
    assert value["frames: accepted"] > FRAMES / 2
    assert value["frames: refused"] > 1000
    assert value["messages: accepted"] > 1000
    assert value["messages: refused"] > 1000
    assert value["headers: accepted"] > 1000
    assert value["headers: refused"] > 1000
    assert value["audit events"] == 0
    assert value["resident memory grew by"] < 64


def test_the_watch_sees_what_it_must_not_miss() -> None:
    """A check that could not fail would hold nothing."""
    done = python("-c", CHECK_OF_THE_WATCH)
    assert done.returncode == 0, done.stderr


def test_recordings_are_valid_however_they_are_read() -> None:
    """Every frame of every recorded session is accepted, over one link and over several."""
    fuzzer = SessionFuzz(3)
    assert fuzzer.unchanged() > 1000
    assert {len(recording.links) for recording in fuzzer.recordings} == {1, 3}


def test_a_seed_tells_the_same_story_again() -> None:
    """Whole, and case by case."""
    assert (first := fuzz(5, 2000).digest) == fuzz(5, 2000).digest
    assert first != fuzz(6, 2000).digest
    assert replay(5, "sessions", 17) == replay(5, "sessions", 17)


def test_a_bug_is_found_and_named_with_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a machine that stumbles over a limit that no honest peer names."""
    honest = inbound._HANDLERS[Ack]

    def stumble(machine: object, frame: Ack, now: float) -> list[object]:
        if frame.limit > 2**60:
            raise OverflowError("a large limit")
        return honest(machine, frame, now)

    monkeypatch.setitem(inbound._HANDLERS, Ack, stumble)
    with pytest.raises(
        Finding, match=r"OverflowError: a large limit; .* --seed 1 --replay"
    ) as found:
        fuzz(1, 20_000)
    number = int(str(found.value).rpartition(":")[2])
    with pytest.raises(OverflowError):
        replay(1, "sessions", number)


def test_a_laxer_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a manifest that takes an unknown type for a known one."""
    honest = Manifest.parse

    def lax(data: bytes) -> Manifest:
        return honest(data.replace(b"F31", b"F32"))

    monkeypatch.setattr(Manifest, "parse", lax)
    with pytest.raises(safetensors.SafetensorError, match="F31"):
        run_cases(HeaderFuzz(1), 5000)


def run_cases(fuzzer: Fuzzer, count: int) -> None:
    """Run the first cases."""
    for number in range(count):
        fuzzer.case(number)


def test_every_rule_that_is_stricter_than_the_library_is_documented() -> None:
    """The texts that the differential check lets pass are those of real errors."""
    for text in ("a\nb", "../x", ""):
        with pytest.raises(TensorFormatError, match=STRICTER):
            Manifest.parse(_header(text))


def _header(name: str) -> bytes:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    data = json.dumps({name: entry}).encode()
    return len(data).to_bytes(8, "little") + data
