"""The learning curves, as series and as a picture."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from flare_async.errors import WorkspaceError
from flare_async.jobs.curves import CurveKind, curves_of
from flare_async.jobs.history import History, ModelRecord, RoundRecord, SiteRecord, SiteStatus
from flare_async.jobs.picture import draw_curves


def made(metrics: dict[str, float], versions: int = 3) -> History:
    """Return a history of models with these metrics and rounds with a loss."""
    good = SiteRecord("a", SiteStatus.OK, 0.0, 1.0)
    return History(
        rounds=[RoundRecord(n, n, n + 1, 1, [good], {"loss": 1.0}) for n in range(versions - 1)],
        models=[ModelRecord(version, metrics, best=version == 1) for version in range(versions)],
    )


def test_models_count_from_zero_and_rounds_from_one() -> None:
    """The loss of round 0 is known once one round is completed."""
    score, *losses = curves_of(made({"accuracy": 0.5, "loss": 2.0}))
    assert (score.label, score.kind) == ("model accuracy", CurveKind.SCORE)
    assert [at for at, _ in score.points] == [0.0, 1.0, 2.0]
    assert [loss.label for loss in losses] == ["model loss", "training loss"]
    assert [at for at, _ in losses[1].points] == [1.0, 2.0]


def test_values_that_are_not_finite_are_left_out() -> None:
    """A curve has a gap there, not a spike."""
    assert [c.label for c in curves_of(made({"accuracy": float("nan")}))] == ["training loss"]


def test_at_most_six_curves_of_a_kind_are_drawn() -> None:
    """More could not be told apart."""
    assert len(curves_of(made({f"m{index}": 0.5 for index in range(20)}))) == 6 + 1


@pytest.mark.parametrize(
    ("history", "width"),
    [
        (made({"accuracy": 0.5, "loss": 2.0}), 1680),
        (made({"accuracy": 0.5}, 1), 840),
        (History(), 840),
    ],
)
def test_the_picture_is_a_png_as_wide_as_its_panels(
    tmp_path: Path, history: History, width: int
) -> None:
    """Two panels, one panel, or a word on why there is none."""
    pytest.importorskip("matplotlib")
    path = draw_curves(history, tmp_path / "curve.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (width, 600)


def test_a_folder_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    """The error names the path."""
    pytest.importorskip("matplotlib")
    with pytest.raises(WorkspaceError, match="nowhere"):
        draw_curves(History(), tmp_path / "nowhere" / "curve.png")


def test_drawing_leaves_the_host_s_figures_alone(tmp_path: Path) -> None:
    """A notebook's open figures and backend stay as they are."""
    pytest.importorskip("matplotlib")
    import sys

    before = "matplotlib.pyplot" in sys.modules
    draw_curves(made({"accuracy": 0.5}), tmp_path / "curve.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
