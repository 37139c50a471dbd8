"""Nothing that a peer or a file says is ever run: what the rules of ``test_layers`` leave open.

Those look at names that are used. Here: imports alone, stars, calls through ``getattr`` and
``builtins``, shells, arrays and models that hold pickles, and processes that talk in pickles.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.test_layers import MAY_IMPORT_BY_NAME, among, is_lazy_table, modules, names_of

# Whoever imports one of these means to run what it reads, or to talk to a process that does.
MODULES_THAT_RUN_DATA: Final = {
    *("_pickle", "cloudpickle", "code", "codeop", "copyreg", "dill", "imp", "joblib", "jsonpickle"),
    *(
        "marshal",
        "multiprocessing",
        "pickle",
        "pkgutil",
        "runpy",
        "shelve",
        "torch.multiprocessing",
    ),
    *("torch.package", "zipimport"),
}
CALLS_THAT_RUN_DATA: Final = {
    *("builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec"),
    *("concurrent.futures.ProcessPoolExecutor", "importlib", "pandas.read_pickle"),
    *("torch.hub", "torch.jit.load", "torch.load", "types.CodeType"),
    *("yaml.full_load", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.Loader"),
}
SHELLS: Final = {
    *("asyncio.create_subprocess_shell", "os.popen", "os.system", "subprocess.getoutput"),
    *("subprocess.getstatusoutput",),
}
# Answers import statements of a job folder's code with the folder's own modules.
ANSWERS_IMPORTS: Final = {"flare_async/jobs/jobfile.py"}
HARMLESS: Final = {"importlib.metadata.PackageNotFoundError", "importlib.metadata.version"}
HARMLESS_FAMILIES: Final = {"importlib.resources"}
# The submitter's own checkpoint, with weights_only=True: test_layers.py holds it to that.
USER_FILES_OF_TORCH: Final = {"flare_async/jobs/checkpoints.py"}
WRITES_JOBLIB: Final = {"flare_async/recipes/sklearn_fedavg.py"}  # and reads none
LOADERS_OF_NUMPY: Final = {"format.read_array", "np.load", "numpy.load"}
HIDDEN_NAMES: Final = {"__builtins__", "__import__", "__loader__", "__subclasses__", "eval", "exec"}

Finding = tuple[int, str]


def imported(tree: ast.AST) -> Iterator[Finding]:
    """Yield line and name of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def runs_data(tree: ast.AST) -> Iterator[Finding]:
    """Yield imports of what runs data, stars, and uses of calls that do."""
    for line, name in imported(tree):
        if among(name, MODULES_THAT_RUN_DATA) or name.endswith(".*") or name == "builtins":
            yield line, name
    for line, name in names_of(tree).used:
        harmless = name in HARMLESS or among(name, HARMLESS_FAMILIES) or name == "importlib"
        if among(name, CALLS_THAT_RUN_DATA | MODULES_THAT_RUN_DATA) and not harmless:
            yield line, name


def hidden(tree: ast.AST) -> Iterator[Finding]:
    """Yield names of the interpreter's own that are reached as text or as attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "vars", "globals"}:
            texts = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
            yield from ((node.lineno, str(text)) for text in texts & HIDDEN_NAMES)
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in HIDDEN_NAMES and name.startswith("__"):
                yield node.lineno, name


def shells(tree: ast.AST) -> Iterator[Finding]:
    """Yield calls that hand a text to a shell."""
    for line, name in names_of(tree).used:
        if among(name, SHELLS):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "subprocess_shell":
            yield node.lineno, node.attr
        if isinstance(node, ast.keyword) and node.arg == "shell" and not is_false(node.value):
            yield node.value.lineno, f"shell={ast.unparse(node.value)}"


def pickled_arrays(tree: ast.AST) -> Iterator[Finding]:
    """Yield readers of NumPy's files that might unpickle; positions and ``**`` hide the switch."""
    for node in ast.walk(tree):
        switch = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if switch and not is_false(node.value):
            yield node.value.lineno, f"allow_pickle={ast.unparse(node.value)}"
        loads = isinstance(node, ast.Call) and ast.unparse(node.func) in LOADERS_OF_NUMPY
        if loads and (len(node.args) > 2 or any(key.arg is None for key in node.keywords)):
            yield node.lineno, ast.unparse(node.func)


def is_false(node: ast.expr) -> bool:
    """Return whether an argument is the constant False."""
    return isinstance(node, ast.Constant) and node.value is False


CHECKS: Final[dict[str, Callable[[ast.AST], Iterator[Finding]]]] = {
    "runs data": runs_data,
    "hidden names": hidden,
    "shells": shells,
    "pickled arrays": pickled_arrays,
}


def allowed(path: str, name: str, tree: ast.Module) -> bool:
    """Return whether a module on a list does what it is listed for."""
    if path in USER_FILES_OF_TORCH and name == "torch.load":
        return True
    if path in WRITES_JOBLIB and name in {"joblib", "joblib.dump"}:
        return True
    if path in ANSWERS_IMPORTS and name in {"__import__", "builtins"}:
        return True
    if name == "importlib" or name.startswith(("importlib.", "builtins.")):
        return path in MAY_IMPORT_BY_NAME or is_lazy_table(path, tree)
    return False


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_no_module_runs_what_it_reads(check: Callable[[ast.AST], Iterator[Finding]]) -> None:
    """Over the package, transports and recipes; three modules import by name, for the user."""
    assert {"flare_async/transports/tcp.py", "flare_async/recipes/fedavg.py"} <= modules().keys()
    found = [
        f"{path}:{line} {name}"
        for path, tree in modules().items()
        for line, name in check(tree)
        if not allowed(path, name, tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("check", "code", "names"),
    [
        (runs_data, "import pickle", {"pickle"}),
        (runs_data, "def f():\n    from pickle import loads as l\n    l(x)", {"pickle.loads"}),
        (runs_data, "from os import *", {"os.*"}),
        (runs_data, "import builtins\nbuiltins.eval(x)", {"builtins.eval"}),
        (runs_data, "exec(text)", {"builtins.exec"}),
        (runs_data, "run = eval", {"builtins.eval"}),
        (runs_data, "__import__(name)", {"builtins.__import__"}),
        (runs_data, "from importlib import reload as r\nr(m)", {"importlib.reload"}),
        (runs_data, "import importlib.util as u\nu.module_from_spec(s)", {"importlib.util"}),
        (runs_data, "import torch\ntorch.load(f, weights_only=True)", {"torch.load"}),
        (runs_data, "import torch\ntorch.jit.load(f)", {"torch.jit.load"}),
        (runs_data, "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)", {"yaml.load"}),
        (runs_data, "import multiprocessing.connection", {"multiprocessing.connection"}),
        (runs_data, "import pandas as pd\npd.read_pickle(f)", {"pandas.read_pickle"}),
        (hidden, "getattr(thing, '__import__')", {"__import__"}),
        (hidden, "getattr(module, 'eval')(x)", {"eval"}),
        (hidden, "__builtins__['eval']", {"__builtins__"}),
        (hidden, "().__class__.__base__.__subclasses__()", {"__subclasses__"}),
        (shells, "import subprocess as s\ns.run(text, shell=True)", {"shell=True"}),
        (shells, "run(text, shell=flag)", {"shell=flag"}),
        (shells, "import os\nos.system(text)", {"os.system"}),
        (shells, "await loop.subprocess_shell(f, text)", {"subprocess_shell"}),
        (pickled_arrays, "np.load(f, allow_pickle=True)", {"allow_pickle=True"}),
        (pickled_arrays, "np.load(f, allow_pickle=flag)", {"allow_pickle=flag"}),
        (pickled_arrays, "np.load(f, **options)", {"np.load"}),
        (pickled_arrays, "numpy.load(f, None, True)", {"numpy.load"}),
    ],
)
def test_bad_code_is_found(
    check: Callable[[ast.AST], Iterator[Finding]], code: str, names: set[str]
) -> None:
    """Each rule finds what it is for, also behind another name."""
    found = {name for _, name in check(ast.parse(code))}
    assert any(among(name, names) for name in found), found


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()\nre.compile(pattern)\nself.exec = 1",
        "from importlib.metadata import version\nversion('x')",
        "from importlib.resources import files\nfiles('x')",
        "import json\njson.load(f)\nsafetensors.torch.load(data)",
        "np.load(f)\nnp.load(f, mmap_mode='r', allow_pickle=False)",
        "subprocess.run([a, b], shell=False)",
        "getattr(thing, 'name')\ngetattr(thing, name)",
        "yaml.safe_load(f)",
    ],
)
def test_good_code_passes(code: str) -> None:
    """A rule that shouts at everything would be switched off."""
    assert [finding for check in CHECKS.values() for finding in check(ast.parse(code))] == []


def test_lists_hold_no_module_that_has_gone() -> None:
    """An entry for a file that does not exist would wait for one of that name."""
    listed = MAY_IMPORT_BY_NAME | ANSWERS_IMPORTS | USER_FILES_OF_TORCH | WRITES_JOBLIB
    assert listed <= modules().keys()
