"""What users add to a recipe after it was made: settings, files, filters, trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from flare_async.jobs.added_files import AddedFile, add_file, path_of
from flare_async.jobs.client_config import checked_settings, limits_with
from flare_async.jobs.components import JobComponents
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.follower import Follower
from flare_async.jobs.site import FILES
from flare_async.jobs.trackers.feed import Tracker
from flare_async.limits import Limits
from flare_async.transfer.filters.filter import Filter

__all__ = ["Additions"]

KEPT = (
    *("client_config", "client_files", "filters", "followers", "job", "server_files"),
    "trackers",
)


class Additions:
    """The part of a recipe that no algorithm looks at; a copy of a recipe takes it over."""

    name: str

    @cached_property
    def job(self) -> JobComponents:
        """Where job files written for NVFlare put their tensor streamers; needed for nothing."""
        return JobComponents(self.name)

    @cached_property
    def trackers(self) -> list[Tracker]:
        """Where records of its runs go beside their folders: see ``add_experiment_tracking``."""
        return []

    @cached_property
    def followers(self) -> list[Follower]:
        """What is done around ``coordinate``: see ``add_cross_site_evaluation``."""
        return []

    @cached_property
    def client_config(self) -> dict[str, object]:
        """What ``add_client_config`` and ``add_server_config`` have set."""
        return {}

    def add_client_config(self, config: Mapping[str, object]) -> None:
        """Set waits and bounds by NVFlare's names; docs/limits.md says what each does here.

        Raises:
            ConfigError: a name is not known.
        """
        self.client_config.update(checked_settings("client_config", config))

    def add_server_config(self, config: Mapping[str, object]) -> None:
        """Set waits and bounds as ``add_client_config``; server and sites have the same limits.

        Raises:
            ConfigError: a name is not known.
        """
        self.client_config.update(checked_settings("server_config", config))

    @cached_property
    def client_files(self) -> list[AddedFile]:
        """What ``add_client_file`` has added."""
        return []

    @cached_property
    def server_files(self) -> list[AddedFile]:
        """What ``add_server_file`` has added."""
        return []

    def add_client_file(self, file_path: str | Path, clients: Sequence[str] | None = None) -> None:
        """Give sites a file or a folder, which ``site.file(name)`` finds there.

        A script asks ``flare.get_file(name)``; ``{file:name}`` in its arguments and command is the
        path as well. ``clients`` are the sites that get it (default: all).

        Raises:
            ConfigError: there is no such file, or a site has another of its name.
        """
        add_file("add_client_file", self.client_files, file_path, clients)

    def add_server_file(self, file_path: str | Path) -> None:
        """Keep a file or folder beside the recipe; ``server_file(name)`` finds it.

        Raises:
            ConfigError: there is no such file, or there is another of its name.
        """
        add_file("add_server_file", self.server_files, file_path)

    def server_file(self, name: str) -> Path:
        """Return where a file of ``add_server_file`` is. Raises ConfigError."""
        return path_of({FILES: {one.name: str(one.path) for one in self.server_files}}, name)

    @cached_property
    def filters(self) -> FilterChains:
        """What ``add_*_filter`` has added."""
        return FilterChains()

    def add_client_input_filter(
        self,
        filter: Filter,  # noqa: A002 - NVFlare's name for it
        tasks: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change the model that sites have received. Raises ConfigError."""
        self.filters.add("client_input", filter, tasks, clients)

    def add_client_output_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change updates before anything leaves a site. Raises ConfigError."""
        self.filters.add("client_output", filter, tasks, clients)

    def add_server_output_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change the model before the server offers it. Raises ConfigError."""
        self.filters.add("server_output", filter, tasks)

    def add_server_input_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change updates as they are staged at the server. Raises ConfigError."""
        self.filters.add("server_input", filter, tasks)

    def limits(self, given: Limits) -> Limits:
        """Return an environment's limits with what was added to the recipe.

        Raises:
            LimitsError: what was added contradicts itself or them.
        """
        return limits_with(given, self.client_config)

    def keep_additions_of(self, other: Additions) -> None:
        """Take over what was added to a recipe after it was made, for a copy of it."""
        for name in KEPT:
            if name in vars(other):
                vars(self)[name] = vars(other)[name]
