"""NVFlare's names for waits and bounds, and which of ours does what each of them did.

``add_client_config`` and ``add_server_config`` of a recipe take these names. Waits here are bounded
by progress, so most of theirs have the same counterpart; those that bound what cannot happen here
are accepted and change nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from flare_async.errors import ConfigError, LimitsError
from flare_async.limits import Limits

__all__ = ["COUNTERPARTS", "checked_settings", "limits_with"]

# The field of Limits that does its work; "" where nothing has to be bounded.
COUNTERPARTS: Final[Mapping[str, str]] = {
    "submit_result_timeout": "stall_timeout",
    "submit_task_result_timeout": "stall_timeout",
    "get_task_timeout": "stall_timeout",
    "min_download_timeout": "stall_timeout",
    "np_min_download_timeout": "stall_timeout",
    "tensor_min_download_timeout": "stall_timeout",
    "peer_read_timeout": "stall_timeout",
    "streaming_ack_progress_timeout": "stall_timeout",
    "streaming_ack_wait": "stall_timeout",
    "streaming_read_timeout": "stall_timeout",
    "tensor_send_timeout": "stall_timeout",
    "np_streaming_per_request_timeout": "send_timeout",
    "streaming_per_request_timeout": "send_timeout",
    "streaming_send_timeout": "send_timeout",
    "tensor_streaming_per_request_timeout": "send_timeout",
    "max_resends": "max_resends",
    # A process may start for as long as it does something.
    "external_pre_init_timeout": "trainer_idle_timeout",
    "launch_timeout": "trainer_idle_timeout",
    "heartbeat_interval": "heartbeat_interval",
    "heartbeat_timeout": "trainer_idle_timeout",
    "task_wait_timeout": "lease",
    "shutdown_timeout": "shutdown_timeout",
    # A result is kept, and its process with it, until the server has committed it.
    "download_complete_timeout": "",
    "last_result_transfer_timeout": "",
    # Nothing is polled, and no pool of threads can be too small.
    "log_pull_interval": "",
    "monitor_interval": "",
    "read_interval": "",
    "result_pull_interval": "",
    "workers": "",
    # Sites that do not start are left out, and those that have not started are not dead.
    "strict_start_job_reply_check": "",
    "sync_client_jobs_require_previous_report": "",
}
# They are of the start only: they may make the limit larger, not smaller.
RAISING: Final = frozenset({"external_pre_init_timeout", "launch_timeout"})
# The first may not exceed the second, by their own rules.
ORDERED: Final = (
    ("streaming_per_request_timeout", "min_download_timeout"),
    ("np_streaming_per_request_timeout", "np_min_download_timeout"),
    ("tensor_streaming_per_request_timeout", "tensor_min_download_timeout"),
    ("heartbeat_interval", "heartbeat_timeout"),
)


def checked_settings(field: str, config: object) -> dict[str, object]:
    """Return the settings under their names in lower case; theirs come in both.

    Raises:
        ConfigError: it is no dict, or has a name that is not known; the hint says which is meant.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(field, config, "a dict is needed")
    found: dict[str, object] = {}
    for name, value in config.items():
        known = name.lower() if isinstance(name, str) else ""
        if known not in COUNTERPARTS:
            near = get_close_matches(known, COUNTERPARTS, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/limits.md has all names"
            raise ConfigError(f"{field}.{name}", value, "is no known setting", hint)
        found[known] = value
    return found


def limits_with(limits: Limits, settings: Mapping[str, object]) -> Limits:
    """Return the limits with the settings put in; of several for one field the largest counts.

    Raises:
        LimitsError: settings contradict each other or other limits; all are listed.
    """
    problems = [
        f"{low}={settings[low]!r} exceeds {high}={settings[high]!r}"
        for low, high in ORDERED
        if low in settings and high in settings and _exceeds(settings[low], settings[high])
    ]
    changes: dict[str, object] = {}
    sources: dict[str, list[str]] = {}
    for name, value in settings.items():
        field = COUNTERPARTS[name]
        if not field or value is None:
            continue
        if name in RAISING and _exceeds(getattr(limits, field), value):
            continue
        sources.setdefault(field, []).append(name)
        if field not in changes or _exceeds(value, changes[field]):
            changes[field] = value
    made = limits
    try:
        made = dataclasses.replace(limits, **changes)  # type: ignore[arg-type]
    except LimitsError as exc:
        problems += [_with_sources(problem, sources) for problem in exc.problems]
    if problems:
        raise LimitsError(problems)
    return made


def _exceeds(one: object, other: object) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers and one > other  # type: ignore[operator]


def _with_sources(problem: str, sources: Mapping[str, list[str]]) -> str:
    names = [name for field, given in sources.items() if field in problem for name in given]
    return f"{problem} (set by {', '.join(names)})" if names else problem
