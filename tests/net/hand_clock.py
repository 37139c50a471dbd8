"""A clock that is moved by hand, so that a timer can come late."""

from __future__ import annotations


class HandTimer:
    """A timer of a HandClock."""

    def __init__(self, when, callback):
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class HandClock:
    """A clock that is moved by hand, so that a timer can come late."""

    def __init__(self):
        self.seconds = 0.0
        self.timers = []
        self.armed = 0

    def now(self):
        return self.seconds

    def call_at(self, when, callback):
        self.armed += 1
        self.timers.append(HandTimer(when, callback))
        return self.timers[-1]

    def move_to(self, seconds):
        """Fire what is due on the way, each timer at its time."""
        while due := self._due(seconds):
            self.seconds = max(self.seconds, due.when)
            self.timers.remove(due)
            due.callback()
        self.seconds = seconds

    def jump_to(self, seconds):
        """Stand still, then fire what is due, late."""
        self.seconds = seconds
        self.move_to(seconds)

    def _due(self, seconds):
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        due = [timer for timer in self.timers if timer.when <= seconds]
        return min(due, key=lambda timer: timer.when, default=None)
