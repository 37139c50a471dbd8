"""Runs one test against one changed line of the package, to see whether the test notices.

A process of its own loads pytest and the libraries once and forks for every mutation. In the fork
the changed module is compiled from its source with one text replaced, nothing is written anywhere,
and pytest runs the one test. This file imports nothing of the package.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[2]
LOADED = ("aiohttp", "msgpack", "numpy", "pytest", "structlog")  # no plugin: pytest loads those
FOUND, SURVIVED, BROKEN = "found", "survived", "broken"
OUTCOMES = {0: SURVIVED, 1: FOUND}  # pytest's own statuses; any other is a run that is no test


@dataclass(frozen=True)
class Mutation:
    """In ``module`` the text ``old``, which stands there once, becomes ``new``; ``test`` must fail.

    ``test`` is what pytest takes: ``tests/recipes/test_x.py::test_name``.
    """

    algorithm: str
    module: str
    old: str
    new: str
    test: str


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from its source with one text replaced."""

    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self._old, self._new = old, new

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source; the cache of the real one is neither read nor written."""
        source = Path(self.path).read_text("utf-8")
        if source.count(self._old) != 1:
            times = source.count(self._old)
            raise SystemExit(f"{self.path}: {self._old!r} stands there {times} times, not once")
        return compile(source.replace(self._old, self._new), self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, and has it changed."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self._module, self._old, self._new = module, old, new

    def find_spec(self, name, path=None, target=None):
        """Return the spec of the changed module; of any other nothing."""
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = Changed(name, spec.origin, self._old, self._new)
        return spec


class Mutator:
    """The process that forks; use it as a context manager."""

    def __enter__(self) -> Mutator:
        line = [sys.executable, "-m", "tests.references.mutate"]
        self._folder = tempfile.TemporaryDirectory()  # whatever pytest does to its usual one
        self._process = subprocess.Popen(
            line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def outcome(self, mutation: Mutation) -> tuple[str, str]:
        """Return "found", "survived" or "broken", and what pytest printed."""
        asked = [mutation.module, mutation.old, mutation.new, mutation.test, self._folder.name]
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        status, said = json.loads(self._process.stdout.readline())
        return OUTCOMES.get(status, BROKEN), said


def serve() -> None:
    """Answer each line of input with pytest's status and what it printed."""
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            run(json.loads(line), writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as output:
            said = output.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, said[-3000:]]), flush=True)


def run(asked: list[str], output: int) -> None:
    """Run one test with one change, and end this process with pytest's status."""
    import pytest

    module, old, new, test, folder = asked
    line = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", f"--basetemp={folder}/t", test]
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    sys.meta_path.insert(0, Finder(module, old, new))
    status = 70
    try:
        status = int(pytest.main(line))
        if module not in sys.modules:
            print(f"{test} does not import {module}")
            status = 71
    except BaseException:  # noqa: BLE001 - this process ends here, and says why
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
