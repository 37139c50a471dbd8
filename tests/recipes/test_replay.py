"""What a run without rounds writes of its order, read back; and what updates' ages make of them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError
from flare_async.recipes.replay import Part, Replay
from flare_async.recipes.staleness import hinge, polynomial, staleness_of

SITES = st.sampled_from(["a", "b", "site-\N{SNOWMAN}"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["version", "updates", "site", "task", "from"]), inner, max_size=4
    ),
    max_leaves=8,
)  # fmt: skip


@st.composite
def orders(draw):
    """Return versions as a run forms them: each site's tasks and bases go up."""
    tasks, bases, versions = {}, {}, []
    for number in range(draw(st.integers(0, 6))):
        parts = set()
        for site in draw(st.lists(SITES, min_size=1, max_size=4)):
            base = draw(st.integers(bases.get(site, 0), number))
            parts.add(Part(site, tasks.get(site, 0), base))
            tasks[site], bases[site] = tasks.get(site, 0) + draw(st.integers(1, 2)), base
        versions.append(frozenset(parts))
    return versions


def text_of(versions):
    """Return the lines that a run writes."""
    rows = [
        {
            "version": number,
            "updates": [{"site": p.site, "task": p.task, "from": p.base} for p in sorted_by(parts)],
        }
        for number, parts in enumerate(versions, 1)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def sorted_by(parts):
    """Return parts in an order that does not depend on hashes."""
    return sorted(parts, key=lambda part: (part.site, part.task))


@given(orders())
@settings(deadline=None)
def test_what_is_written_is_read_back(versions):
    """And every site's next task is found from any number on."""
    found = Replay.parse(text_of(versions))
    assert found.versions == tuple(versions)
    for number, parts in enumerate(versions, 1):
        assert found.parts(number) == parts
        assert all(found.next_of(part.site, part.task) == part for part in parts)
    assert found.parts(len(versions) + 1) == frozenset()


@given(
    st.text(max_size=80) | st.lists(VALUES, max_size=3).map(lambda v: "\n".join(map(json.dumps, v)))
)
@settings(deadline=None)
def test_anything_else_is_a_config_error(text):
    """Whatever stands in the file."""
    with suppress(ConfigError):
        found = Replay.parse(text)
        assert text.strip() == "" or found.versions


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ([{("a", 0, 1)}], "begins from version 1"),
        ([{("a", 0, 0)}, {("a", 0, 0)}], "comes twice"),
        ([{("a", 1, 0)}, {("a", 0, 1)}], "older version"),
    ],
)
def test_an_order_that_no_run_can_have_is_refused(versions, problem):
    """From the future, twice, or backwards."""
    with pytest.raises(ConfigError, match=problem):
        Replay([frozenset(Part(*part) for part in parts) for parts in versions])


def test_a_task_that_failed_is_passed_over():
    """The record has the tasks that brought something."""
    found = Replay([frozenset({Part("a", 2, 0)})])
    assert found.next_of("a", 0) == Part("a", 2, 0)
    assert found.next_of("a", 3) is None
    assert found.next_of("b", 0) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, or no text."""
    (tmp_path / "versions.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="cannot be read"):
            Replay.read(path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", [1, 1, 1]),
        ("inverse_sqrt", [1, 0.5, 1 / 3]),
        ("edge", [1, 1 / (1 + 3**0.5), 1 / (1 + 8**0.5)]),
        ("polynomial", [1, 0.5, 1 / 3]),
        ("hinge", [1, 1, 1 / 41]),
    ],
)
def test_an_age_has_the_factor_of_its_paper(name, values):
    """At 0, 3 and 8 versions."""
    assert [staleness_of(name)(age) for age in (0, 3, 8)] == pytest.approx(values)


def test_other_constants_and_functions_of_ones_own():
    """As the papers leave them open."""
    assert polynomial(1.0)(3) == 0.25
    assert hinge(1.0, 0.0)(3) == 0.25
    assert staleness_of(lambda age: 1 / (1 + age))(1) == 0.5
    with pytest.raises(ConfigError, match="staleness"):
        staleness_of(lambda age: float("nan"))
    with pytest.raises(ConfigError, match="staleness"):
        staleness_of(0.5)
