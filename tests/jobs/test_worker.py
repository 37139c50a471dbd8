"""The worker process from inside: its messages, its shared files, and how it loads user files."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ConfigError, RemoteProtocolError, TensorFormatError, TrainingFailed
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners import worker
from flare_async.jobs.spawners.messages import (
    PREFIX,
    Assignment,
    Done,
    Failed,
    Setup,
    decode,
    encode,
)
from flare_async.jobs.spawners.platform import MemoryFile, usable_cores
from flare_async.jobs.spawners.shared import layout, mapped, read_tensors, write_tensors
from flare_async.jobs.spawners.workbench import load_function
from flare_async.jobs.spawners.worker import receive
from flare_async.jobs.work import JOB_MODULE, CodeReference
from flare_async.model import ParamsType
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

TIED = np.arange(3, dtype=np.float32)
TENSORS = TensorSet.from_params(
    {"a": TIED, "b": TIED, "n": np.array(7), "none": np.empty((0, 4), np.float16)}
)
ASSIGNMENT = Assignment(
    code=CodeReference("/job.py", "train", "pkg", (1, [2.5]), {"key": {"deep": None}}),
    framework="torch",
    site=SiteInfo(name="site-1", index=3, num_sites=9, seed=2**63 - 1, config={"rates": [0.1]}),
    meta={"lr": 0.5, "best": False},
    model=4,
    specs=TENSORS.specs,
    aliases={"b": "a"},
)
DONE = Done(ParamsType.DIFF, {"loss": 0.25}, {"steps": 3}, 1.5, {"b": "a"})

texts = st.text(max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False) | texts
metas = st.dictionaries(texts, scalars, max_size=4)
done = st.builds(
    Done,
    st.sampled_from(ParamsType),
    st.dictionaries(texts, st.floats(allow_nan=False), max_size=4),
    metas,
    st.floats(allow_nan=False),
    st.dictionaries(texts, texts, max_size=3),
)
assignments = st.builds(
    Assignment,
    st.builds(
        CodeReference,
        texts,
        texts,
        texts,
        st.lists(scalars, max_size=3).map(tuple),
        st.dictionaries(texts, st.lists(scalars, max_size=2), max_size=3),
    ),
    st.sampled_from(["numpy", "torch"]),
    st.builds(SiteInfo, name=texts, index=st.integers(0, 99), config=metas),
    metas,
    st.integers(0, 2**40),
    st.lists(
        st.builds(
            TensorSpec,
            st.text("abc_", min_size=1, max_size=9),
            st.sampled_from(["F32", "I64", "BOOL"]),
            st.lists(st.integers(0, 99), max_size=3).map(tuple),
        ),
        max_size=4,
        unique_by=lambda spec: spec.name,
    ).map(tuple),
    st.just({}),
)
messages = (
    st.builds(Setup, st.lists(texts, max_size=3).map(tuple), st.none() | texts)
    | st.builds(Failed, texts, texts)
    | done
    | assignments
)


@given(messages)
def test_every_message_arrives_as_it_was_sent(message):
    """All four kinds, with any plain content."""
    assert decode(encode(message)[PREFIX:]) == message


def test_a_path_that_is_no_unicode_arrives_as_it_was_sent():
    """File names are bytes to the system."""
    setup = Setup(("/tmp/\udcff",), None)
    assert decode(encode(setup)[PREFIX:]) == setup


@given(st.binary(max_size=64))
def test_garbage_is_a_typed_error(data):
    """A worker runs user code, which may write anything to any descriptor."""
    with pytest.raises(RemoteProtocolError, match="worker_message"):
        decode(data)


@given(
    st.sampled_from([encode(ASSIGNMENT), encode(DONE)]), st.integers(0, 4000), st.integers(0, 255)
)
def test_a_changed_byte_is_another_message_or_a_typed_error(message, place, value):
    """Nothing else leaves the parser."""
    body = bytearray(message[PREFIX:])
    body[place % len(body)] = value
    try:
        found = decode(body)
    except RemoteProtocolError:
        return
    assert isinstance(found, Assignment | Done)


def test_what_cannot_travel_is_refused_by_the_sender():
    """An integer of more than 64 bits has no place in a message."""
    with pytest.raises(ConfigError, match="cannot travel"):
        encode(Done(ParamsType.FULL, {}, {"steps": 2**64}, 0.0, {}))


def test_tensors_pass_through_a_shared_file():
    """Tied tensors take room once, empty ones none; the mapped view cannot be written to."""
    _, size = layout(TENSORS.specs, TENSORS.aliases)
    file = MemoryFile(size)
    write_tensors(file, TENSORS)
    seen = mapped(file.fileno(), TENSORS.specs, TENSORS.aliases)
    read = read_tensors(file, TENSORS.specs, TENSORS.aliases)
    assert size == 128
    assert seen.model_digest() == read.model_digest() == TENSORS.model_digest()
    assert dict(read.aliases) == {"b": "a"}
    assert seen["a"].readonly


def test_what_was_read_is_out_of_the_workers_reach():
    """User code may go on writing to the file after it was checked."""
    file = MemoryFile(128)
    read = read_tensors(file, TENSORS.specs, TENSORS.aliases)
    os.pwrite(file.fileno(), b"\xff" * 128, 0)
    assert not any(bytes(read["a"]))


def test_a_file_that_is_too_small_is_a_typed_error():
    """Reading past its end would kill the process."""
    file = MemoryFile(64)
    with pytest.raises(TensorFormatError, match="64 bytes, 128 are needed"):
        mapped(file.fileno(), TENSORS.specs, TENSORS.aliases)
    with pytest.raises(TensorFormatError, match="64 bytes, 128 are needed"):
        read_tensors(file, TENSORS.specs, TENSORS.aliases)


def test_an_alias_of_nothing_is_a_typed_error():
    """The worker's word is checked before it is used."""
    with pytest.raises(TensorFormatError, match="alias"):
        read_tensors(MemoryFile(128), TENSORS.specs, {"b": "elsewhere"})


def refuse(name):
    raise OSError(name)


@pytest.mark.parametrize("create", [None, refuse])
def test_without_memfd_a_nameless_temporary_file_takes_its_place(create):
    """Other systems and sandboxes."""
    file = MemoryFile(4096, create=create)
    assert os.fstat(file.fileno()).st_nlink == 0
    assert len(mmap.mmap(file.fileno(), 4096)) == 4096


def test_a_memory_file_is_closed_with_its_last_reference():
    """Not before: a thread that still copies would meet another file."""
    file = MemoryFile(64)
    number = file.fileno()
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a package whose job file imports relatively and absolutely."""
    (tmp_path / "pkg_of_job").mkdir()
    (tmp_path / "pkg_of_job" / "__init__.py").touch()
    (tmp_path / "pkg_of_job" / "helper.py").write_text("NUMBER = 5\n")
    job = tmp_path / "pkg_of_job" / "job.py"
    job.write_text(
        "from . import helper\nfrom pkg_of_job.helper import NUMBER\n"
        "assert helper.NUMBER == NUMBER and __name__ != '__main__'\n"
        "def train(model, site, add=0): return NUMBER + add\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = [JOB_MODULE, f"pkg_of_job.{JOB_MODULE}", "pkg_of_job", "pkg_of_job.helper"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # undone after the test
        del sys.modules[name]
    return job


def test_a_file_of_a_package_keeps_its_imports(package):
    """It is loaded by its path, under another name, once."""
    files = {}
    reference = CodeReference(str(package), "train", "pkg_of_job", keywords={"add": 2})
    assert load_function(reference, files, "site-1")(None, None) == 7
    package.unlink()
    assert load_function(reference, files, "site-1")(None, None) == 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise ValueError('at import')", "ValueError: at import"),
        ("import sys; sys.exit(2)", "SystemExit: 2"),
        ("def other(): ...", "has no function train"),
    ],
)
def test_a_file_that_does_not_load_is_the_sites_failure(package, text, problem):
    """The message names the file; the worker lives on."""
    package.write_text(text)
    with pytest.raises(TrainingFailed, match=problem) as caught:
        load_function(CodeReference(str(package), "train"), {}, "site-1")
    assert str(package) in caught.value.problem


def test_a_file_that_is_no_python_is_the_sites_failure(package):
    """The suffix decides how a file is loaded."""
    with pytest.raises(TrainingFailed, match="is no Python file"):
        load_function(CodeReference(str(package.with_suffix(".txt")), "train"), {}, "site-1")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x00\x00\x05ab", "cut off at 2 of 5 bytes"),
        (b"\x00", "cut off at 0 of 3 bytes"),
        (b"\xff\xff\xff\xff", "4294967295 bytes"),
    ],
)
def test_a_broken_message_ends_the_worker_with_a_typed_error(data, words):
    """The length is checked before anything is allocated."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(RemoteProtocolError, match=words):
            receive(theirs)


def test_a_closed_socket_ends_the_worker():
    """The parent's end is the order to leave."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert receive(theirs) is None


def test_a_worker_whose_parent_is_gone_leaves_at_once():
    """The parent may die before the worker has asked the kernel to follow it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ended = subprocess.run(
            [sys.executable, "-m", worker.__name__, str(theirs.fileno()), "0"],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            timeout=10,
            check=False,
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_there_is_at_least_one_core():
    """It is the default number of slots."""
    assert usable_cores() >= 1
