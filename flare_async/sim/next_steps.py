"""Commands that are worth trying after a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from flare_async.sim.facts import Extras, RunFacts

__all__ = ["Step", "next_steps"]

COMMAND: Final = "python -m flare_async.sim"


@dataclass(frozen=True, slots=True)
class Step:
    """One command line and what it is for."""

    command: str
    purpose: str


def next_steps(facts: RunFacts, extras: Extras) -> list[Step]:
    """Return three or four commands that follow from how the run ended."""
    again = extras.again or COMMAND
    if facts.status == "aborted":
        return [Step(again, "the same run from its beginning")]
    if not facts.completed:
        record = "history.jsonl" if facts.history.rounds else "run.json"
        return [
            Step(f"cat {shlex.quote(str(facts.folder / record))}", "what was reached"),
            Step(
                having(again, "--workers", "inline"),
                "run user code on the main thread: plain tracebacks",
            ),
            Step(f"{again} --json", "the error and its causes as one document"),
        ]
    steps = [
        Step(
            having(having(again, "--seed", facts.seed), "--transport", "tcp"),
            "the same bits over real sockets",
        ),
        Step(having(again, "--seed", facts.seed + 1), "other random numbers"),
    ]
    if extras.class_counts:
        steps.append(Step(f"{COMMAND} --alpha 0.1", "sites that are less alike"))
        steps.append(Step(f"{COMMAND} --clients 100 --rounds 20", "many small sites"))
    else:
        steps.append(Step(having(again, "--clients", 2 * facts.clients), "twice as many sites"))
    return steps


def having(command: str, option: str, value: object) -> str:
    """Return the command with that value of an option, in place of a former one."""
    words = shlex.split(command)
    if option in words[:-1]:
        words[words.index(option) + 1] = str(value)
    else:
        words += [option, str(value)]
    return shlex.join(words)
