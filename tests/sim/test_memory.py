"""The planned memory stands beside the measured peak wherever a run is shown."""

from __future__ import annotations

import io
import json

from flare_async.jobs.events import MemoryPlanned
from flare_async.sim.facts import Extras
from flare_async.sim.live import PlainLines
from flare_async.sim.report import render_report
from flare_async.sim.report_memory import memory_table
from flare_async.sim.summary import document, print_summary, run_data
from tests.sim.story import extras, facts, history


def test_the_report_has_plan_and_peak_in_one_table(tmp_path):
    """Each part, their sum, and what was measured."""
    page = render_report(facts(tmp_path, history()), extras())
    table = page.split("<h2>Memory</h2>")[1].split("</table>")[0]
    for shown in ("200.0 MB", "55.0 MB", "255.0 MB", "300.0 MB", "2 x model"):
        assert shown in table


def test_a_run_without_a_plan_has_no_table(tmp_path):
    """A recipe need not say what it needs."""
    made = facts(tmp_path, history())
    bare = type(made)(made.run_id, made.recipe, made.status, made.history, made.folder)
    assert memory_table(bare) == ""


def test_the_summary_has_both_in_one_line(tmp_path):
    """The equation after the peak."""
    out = io.StringIO()
    print_summary(facts(tmp_path, history()), extras(), out)
    shown = " ".join(out.getvalue().split())
    assert "300 MB at its peak, planned at most 255 MB = base 200 + models 55" in shown


def test_the_document_has_the_parts(tmp_path):
    """In bytes."""
    whole = json.loads(document(run_data(facts(tmp_path, history()), Extras()), None))
    assert whole["data"]["memory_plan"]["bytes"] == 255_000_000


def test_the_plain_lines_begin_with_the_plan(tmp_path):
    """Before anything is started."""
    out = io.StringIO()
    PlainLines(out)(MemoryPlanned(facts(tmp_path, history()).plan))
    assert out.getvalue() == "memory at most: 255 MB = base 200 + models 55\n"
