"""TensorBoard: event files below the run folder, written by tensorboardX."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.feed import Receiver, TrackedRun
from flare_async.jobs.trackers.steps import Steps

if TYPE_CHECKING:
    import tensorboardX

__all__ = ["TensorBoardTracker"]

OPEN_WRITERS: Final = 64  # each has two threads; one that is opened again writes a further file


@dataclass(frozen=True, slots=True)
class TensorBoardTracker:
    """Writes ``<run folder>/<tb_folder>/<site>``. ``events`` is accepted and needed for nothing.

    Raises:
        ConfigError: ``tb_folder`` leaves the run folder.
    """

    tb_folder: str = "tb_events"
    events: object = None
    name: str = "tensorboard"

    def __post_init__(self) -> None:
        path = Path(self.tb_folder)
        if not self.tb_folder or path.is_absolute() or ".." in path.parts:
            raise ConfigError("tb_folder", self.tb_folder, "a folder below the run's is needed")

    def check(self) -> None:
        """Raise MissingExtra when tensorboardX is not installed."""
        try:
            import tensorboardX

            del tensorboardX  # it is there
        except ImportError as exc:
            raise MissingExtra("tensorboardX", "tracking") from exc

    def open(self, run: TrackedRun) -> Receiver:
        """Return the receiver of a run."""
        self.check()
        return TensorBoardReceiver(run.folder / self.tb_folder)


class TensorBoardReceiver:
    """One writer a site, up to ``OPEN_WRITERS`` at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps = Steps()
        self._opened = 0
        self._writers: OrderedDict[str, tensorboardX.SummaryWriter] = OrderedDict()

    def take(self, rows: Sequence[MetricRow]) -> None:
        """Write numbers as scalars and everything else as text."""
        touched = set[str]()
        for row in rows:
            writer, step = self._writer(row.site), self._steps.of(row)
            numbers = row.numbers()
            for tag, number in numbers.items():
                writer.add_scalar(tag, number, step)
            if not numbers:
                writer.add_text(row.key, str(row.value), step)
            touched.add(row.site)
        for site in touched & set(self._writers):
            self._writers[site].flush()

    def close(self) -> None:
        """Write what is left and close all files."""
        with ExitStack() as stack:
            for writer in self._writers.values():
                stack.callback(writer.close)

    def _writer(self, site: str) -> tensorboardX.SummaryWriter:
        import tensorboardX

        writer = self._writers.get(site)
        if writer is None:
            if len(self._writers) >= OPEN_WRITERS:
                self._writers.popitem(last=False)[1].close()
            self._opened += 1  # two files of one second would have the same name
            suffix = f".{self._opened}"
            writer = tensorboardX.SummaryWriter(str(self._folder / site), filename_suffix=suffix)
            self._writers[site] = writer
        self._writers.move_to_end(site)
        return writer
