"""What a script may log: the kinds of records, and how a value becomes one."""

from __future__ import annotations

from flare_async.jobs.records.values import make_record
from flare_async.roles.log_record import AnalyticsDataType

__all__ = ["AnalyticsDataType", "make_record"]
