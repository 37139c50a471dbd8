"""The report's table of memory: what was planned, beside what the process came to."""

from __future__ import annotations

from html import escape

from flare_async.sim.facts import RunFacts
from flare_async.sim.words import byte_count

__all__ = ["memory_table"]


def memory_table(facts: RunFacts) -> str:
    """Return a row a part of the plan and their sum beside the peak; nothing without a plan."""
    plan = facts.plan
    if plan is None:
        return ""
    rows = "".join(
        _row(part.name, byte_count(part.nbytes), part.how) for part in (*plan.parts, *plan.files)
    )
    most = _row("planned, at most", byte_count(plan.nbytes), "without files")
    peak = _row("measured peak", byte_count(round(facts.peak_rss_mb * 1e6)), "of this process")
    return (
        "<h2>Memory</h2>"
        '<div class="scroll"><table><thead><tr><th>part</th><th>at most</th>'
        f"<th class=left>how</th></tr></thead><tbody>{rows}{most}{peak}</tbody></table></div>"
        '<p class="soft">Computed before the run. Processes that train have memory of their own, '
        "which is planned and not in the measured peak.</p>"
    )


def _row(name: str, size: str, how: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{size}</td><td class=left>{escape(how)}</td></tr>"
