"""README and docs say what is: code runs, links resolve, tables match the classes."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from flare_async import Limits, SimEnv, errors
from flare_async.recipes import FedAvgRecipe
from flare_async.sim import commands
from flare_async.sim.cli import command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def fences(kind):
    """Return (page, first line, text) of every fenced block of a kind."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = [match for match in FENCE.finditer(text) if match[1] == kind]
        found.extend((page, text.count("\n", 0, at.start()) + 2, at[2]) for at in blocks)
    return found


def block_id(value):
    """Return what a block is called: its page and line."""
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)[:20]


def rows(page, first):
    """Return the table whose first column is called ``first``: cells without back quotes."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return found


CODE = fences("python")
COMMANDS = [
    pytest.param(line.strip(), id=line.strip())
    for _, _, text in fences("sh")
    for line in text.splitlines()
    if line.strip()
]


@pytest.mark.parametrize(("page", "line", "code"), CODE, ids=[f"{p.name}-{n}" for p, n, _ in CODE])
def test_a_block_of_python_runs_as_printed(page, line, code, tmp_path, monkeypatch, capsys):
    """Each block is complete: it has a namespace and a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = "\n" * (line - 1) + code  # so that a traceback shows the page's own lines
    exec(compile(source, str(page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().err == ""


def test_the_complete_example_is_short():
    """The README's first example has at most 15 lines."""
    code = next(text for page, _, text in CODE if page.name == "README.md")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("page", PAGES, ids=block_id)
def test_every_relative_link_resolves(page):
    """A link to a file that has moved helps nobody."""
    links = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    broken = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert broken == []


@pytest.mark.parametrize("line", COMMANDS)
def test_every_shell_command_exists(line):
    """A command is a target of the Makefile or a module, and has the options that it shows."""
    program, *words = shlex.split(line)
    if program == "make":
        assert words[0] in TARGET.findall((ROOT / "Makefile").read_text("utf-8"))
        return
    assert [program, words[0]] == ["python", "-m"]
    assert importlib.util.find_spec(words[1]) is not None
    if words[1] == "flare_async.sim":
        named = commands.COMMANDS.get(words[2]) if len(words) > 2 else None
        called = named() if named else command
        known = {name for option in called.params for name in option.opts} | {"--help"}
        assert {word for word in words[2:] if word.startswith("--")} <= known


def test_the_readme_shows_both_commands_and_fits_two_screens():
    """A newcomer finds what to type."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert {"make sim", "make test"} <= set(text.splitlines())
    assert 70 <= len(text.splitlines()) <= 140


def test_every_page_and_example_is_listed_in_the_index():
    """What is not listed is not found."""
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    examples = ROOT / "examples"
    there = {*PAGES, *examples.glob("*.py"), *examples.glob("*/README.md")} - {index}
    assert there <= listed


def test_decisions_are_short():
    """A decision is a page of at most 40 lines."""
    lengths = {
        page.name: len(page.read_text("utf-8").splitlines())
        for page in (ROOT / "docs" / "decisions").glob("*.md")
    }
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_the_limits_page_has_every_field_with_its_default():
    """The table and the dataclass agree, in the same order."""
    shown = [(row[0], row[1]) for row in rows("limits.md", "field")]
    assert shown == [(field.name, str(field.default)) for field in dataclasses.fields(Limits)]


def test_the_errors_page_has_every_class_with_code_and_status():
    """The table and the classes agree."""
    shown = {row[0]: tuple(row[1:4]) for row in rows("errors.md", "class")}
    classes = [getattr(errors, name) for name in errors.__all__]
    assert shown == {
        kind.__name__: (kind.__base__.__name__, kind.code, str(kind.exit_status))
        for kind in classes
    }


@pytest.mark.parametrize(
    ("page", "kind"), [("recipes.md", FedAvgRecipe), ("simulation.md", SimEnv)]
)
def test_a_table_of_arguments_has_all_of_them(page, kind):
    """An argument is added to its page in the same change, in the same order."""
    shown = [row[0] for row in rows(page, "argument")]
    names = [field.name for field in dataclasses.fields(kind)]
    assert sorted(shown) == sorted(names)


def test_the_table_of_options_has_all_of_them():
    """The command line and its page agree."""
    shown = {row[0] for row in rows("simulation.md", "option")}
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert shown == {option.opts[0] for option in options}


COUNTERPARTS = [
    pytest.param(*(cell.strip() for cell in line.split("|")[2:4]), id=line.split("`")[1][:60])
    for line in (ROOT / "docs/migrating-from-nvflare.md").read_text("utf-8").splitlines()
    if re.match(r"\| `(import|from) nvflare", line)
]


@pytest.mark.parametrize(("here", "note"), COUNTERPARTS)
def test_an_import_of_nvflare_has_a_counterpart_that_imports(here, note):
    """Or a reason why there is none."""
    if not here:
        assert note.startswith(("not there yet", "not planned", "not needed"))
        return
    code = here.strip("`")
    package = code.split()[1]
    if package == "flare_async.client.lightning":  # needs Lightning itself
        assert importlib.util.find_spec(package) is not None
    else:
        exec(code, {})


def test_the_imports_that_nvflares_examples_use_are_in_the_table():
    """Those of its scripts, and of the jobs that start them."""
    assert len(COUNTERPARTS) > 40
