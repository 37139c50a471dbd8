"""What no import contract can say: rules about single names, held over every module's syntax tree.

``lint-imports`` holds the layers. Here: heavy frameworks are imported where they are used, nothing
executes data, only named modules import by name, and only the real ports read a clock or entropy.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 300
LONGEST_FUNCTION = 40
MAY_BE_LONGER = {"flare_async/errors.py": 560}  # one table of every exception reads best whole

LAZY = {
    *("matplotlib", "ml_dtypes", "mlflow", "pandas", "sklearn", "sqlalchemy", "tensorboardX"),
    *("lightning", "pytorch_lightning", "torch", "wandb"),
}
MAY_IMPORT = {
    "flare_async/client/lightning/base.py"
}  # its package is nobody's but Lightning users'

# Whoever reads data with one of these runs it.
EXECUTES_DATA = {
    "builtins.eval",
    "cloudpickle",
    "dill",
    "joblib.load",
    "marshal",
    "pickle",
    "shelve",
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
}
CHECKPOINT = ("flare_async/jobs/checkpoints.py", "torch.load")  # with weights_only=True
LAZY_CALL = "import_module(_MODULES[name])"
BY_NAME = {
    "builtins.__import__",
    "builtins.compile",
    "builtins.exec",
    "importlib.import_module",
    "importlib.metadata.entry_points",
    "importlib.util",
    "pkgutil",
    "runpy",
}
MAY_IMPORT_BY_NAME = {
    "flare_async/jobs/jobfile.py",  # the user's job file, by its path
    "flare_async/jobs/models.py",  # the class of a model, on the submitter's side
    "flare_async/net/registry.py",  # transports, by the scheme of an address of our own
}
CLOCK_AND_ENTROPY = {
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "os.getrandom",
    "os.urandom",
    "random",
    "secrets",
    "time.time",
    "time.time_ns",
    "uuid.uuid1",
    "uuid.uuid4",
}
DETERMINISTIC = {"random.Random"}
REAL_PORTS = ("flare_async/jobs/", "flare_async/net/clock.py", "flare_async/net/rng.py")


class Names(ast.NodeVisitor):
    """The dotted names that a module uses, and those that it imports when it is imported."""

    def __init__(self) -> None:
        self.used: list[tuple[int, str]] = []
        self.at_import: list[tuple[int, str]] = []
        self._meaning: dict[str, str] = {}
        self._depth = 0

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test) or isinstance(node.test, ast.UnaryOp):
            self.generic_visit(node)
            return
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            self._meaning[bound] = alias.name if alias.asname else bound
            self._note_import(node.lineno, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self._meaning[alias.asname or alias.name] = name
            self._note_import(node.lineno, name)

    def _note_import(self, line: int, name: str) -> None:
        if self._depth == 0:
            self.at_import.append((line, name))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = self._dotted(node)
        if dotted is None:
            self.generic_visit(node)
        else:
            self.used.append((node.lineno, dotted))

    def visit_Name(self, node: ast.Name) -> None:
        builtin = f"builtins.{node.id}"
        self.used.append((node.lineno, self._meaning.get(node.id, builtin)))

    def _dotted(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Attribute):
            owner = self._dotted(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return self._meaning.get(node.id) if isinstance(node, ast.Name) else None


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module's tree by its path below the root, each file once."""
    found = {}
    for folder, names, files in os.walk(ROOT / "flare_async", followlinks=True):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder) / file
                found[path.relative_to(ROOT).as_posix()] = ast.parse(path.read_text("utf-8"))
    return found


@cache
def names_of(tree: ast.AST) -> Names:
    """Return the names of one module, each found once: many tests ask for them."""
    names = Names()
    names.visit(tree)
    return names


def among(name: str, listed: set[str]) -> bool:
    """Return whether a dotted name is one of those listed, or inside one."""
    return any(name == entry or name.startswith(f"{entry}.") for entry in listed)


def uses(tree: ast.AST, listed: set[str]) -> list[tuple[int, str]]:
    """Return line and name of every use of what is listed."""
    return sorted({(line, name) for line, name in names_of(tree).used if among(name, listed)})


def everywhere(listed: set[str]) -> Iterator[tuple[str, int, str]]:
    """Yield path, line and name of every use in the package."""
    for path, tree in modules().items():
        for line, name in uses(tree, listed):
            yield path, line, name


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_lazy_table(path: str, tree: ast.Module) -> bool:
    """Return whether a package's only import by name reads a literal table of our own modules."""
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES"
    ]
    calls = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
    ]
    literal = tables and all(
        str(module).startswith("flare_async.") for module in ast.literal_eval(tables[0]).values()
    )
    return bool(literal) and path.endswith("/__init__.py") and calls == [LAZY_CALL]


def test_frameworks_are_imported_where_they_are_used() -> None:
    """A core without extras must import, and nobody pays for a framework that is not used."""
    found = [
        f"{path}:{line} {name}"
        for path, tree in modules().items()
        for line, name in names_of(tree).at_import
        if name.partition(".")[0] in LAZY and path not in MAY_IMPORT
    ]
    assert found == []


def test_nothing_executes_data() -> None:
    """What comes from a peer or a file is parsed by closed schemas."""
    found = [use for use in everywhere(EXECUTES_DATA) if (use[0], use[2]) != CHECKPOINT]
    assert found == []


def test_torch_loads_weights_only() -> None:
    """The submitter's own file is the one thing that ``torch.load`` reads, and runs nothing."""
    calls = [
        {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        for node in ast.walk(modules()[CHECKPOINT[0]])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert [call["weights_only"] for call in calls] == ["True"]
    assert len(uses(modules()[CHECKPOINT[0]], {CHECKPOINT[1]})) == 1


def test_numpy_never_unpickles() -> None:
    """``allow_pickle=True`` is pickle by another name."""
    found = [
        f"{path}:{node.value.lineno}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if ast.unparse(node.value) != "False"
    ]
    assert found == []


def test_only_three_modules_import_by_name() -> None:
    """Code is named by the submitter and found there; a peer's data never names code."""
    assert len(MAY_IMPORT_BY_NAME) <= 3
    found = [
        f"{path}:{line} {name}"
        for path, line, name in everywhere(BY_NAME)
        if path not in MAY_IMPORT_BY_NAME and not is_lazy_table(path, modules()[path])
    ]
    assert found == []


def test_only_the_real_ports_read_clock_and_entropy() -> None:
    """Everything else is handed a clock and random streams, so that a simulation can replay it."""
    found = [
        f"{path}:{line} {name}"
        for path, line, name in everywhere(CLOCK_AND_ENTROPY)
        if not path.startswith(REAL_PORTS) and not among(name, DETERMINISTIC)
    ]
    assert found == []


def test_every_module_has_a_docstring_and_says_what_it_exports() -> None:
    """The docstring says what the one noun of the file is, ``__all__`` what others may use."""
    lacking = [
        path
        for path, tree in modules().items()
        if not ast.get_docstring(tree) or "__all__" not in {n for _, n in exported(tree)}
    ]
    assert lacking == []


def exported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of the module's assignments."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        yield from ((node.lineno, target.id) for target in targets if isinstance(target, ast.Name))


def line_count(path: str) -> int:
    """Return how many lines a module has."""
    return len((ROOT / path).read_text("utf-8").splitlines())


def test_files_and_functions_stay_short() -> None:
    """Reaching a limit is the signal to look for the second noun."""
    long = [
        f"{path} has {lines} lines"
        for path in modules()
        if (lines := line_count(path)) > MAY_BE_LONGER.get(path, LONGEST_FILE)
    ]
    for path, tree in modules().items():
        for node in functions(tree):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                long.append(f"{path}:{node.lineno} {node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize(
    ("code", "listed", "expected"),
    [
        ("import pickle\ngetattr(pickle, name)", EXECUTES_DATA, [(2, "pickle")]),
        ("import torch as t\nt.load(f)", EXECUTES_DATA, [(2, "torch.load")]),
        ("def f():\n    from torch import load\n    load(g)", EXECUTES_DATA, [(3, "torch.load")]),
        ("eval(text)", EXECUTES_DATA, [(1, "builtins.eval")]),
        ("model.eval()\nre.compile(p)", EXECUTES_DATA | BY_NAME, []),
        ("import random\nrandom.random()", CLOCK_AND_ENTROPY, [(2, "random.random")]),
        ("import random\nx: random.Random", DETERMINISTIC, [(2, "random.Random")]),
        ("import time\ntime.monotonic()", CLOCK_AND_ENTROPY, []),
    ],
)
def test_the_check_sees_through_aliases(
    code: str, listed: set[str], expected: list[tuple[int, str]]
) -> None:
    """A rule that a renamed import escapes would hold nothing."""
    assert uses(ast.parse(code), listed) == expected
