"""A picture of calibration: how often what is said with a certain probability is true, before and after temperature."""

from __future__ import annotations

from pathlib import Path

from bts_auto.ensemble.calibration import Calibration, ReliabilityTable
from bts_auto.files import atomic_path

_INCHES, _DPI = 3.0, 110
# Orange before, blue after: colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
_BEFORE, _AFTER = "#E69F00", "#0072B2"


def write_reliability(path: Path, calibration: Calibration) -> None:
    """Draw one diagram for each region; on the diagonal a probability is as good as its word.

    Parameters
    ----------
    path : Path
        A ``.png`` file.
    calibration : Calibration
        With at least one region.
    """
    from matplotlib.figure import Figure

    shown = {name: one for name, one in calibration.regions.items() if one.before is not None}
    figure = Figure(figsize=(_INCHES * max(1, len(shown)), _INCHES + 0.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, max(1, len(shown)), squeeze=False, sharey=True)[0]
    for picture, (name, one) in zip(axes, shown.items(), strict=False):
        picture.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for table, error, colour, when in (
            (one.before, one.error_before, _BEFORE, "before"),
            (one.after, one.error_after, _AFTER, f"after, T = {one.temperature:.2f}"),
        ):
            assert table is not None
            words = "" if error is None else f" (ECE {error:.3f})"
            picture.plot(*_points(table), color=colour, marker="o", markersize=3, label=when + words)
        picture.set(title=name, xlabel="probability", xlim=(0, 1), ylim=(0, 1))
        picture.legend(fontsize=7, loc="upper left", frameon=False)
    axes[0].set_ylabel("share of voxels for which it is true")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _points(table: ReliabilityTable) -> tuple[list[float], list[float]]:
    filled = [(x, y) for x, y in zip(table.confidence, table.frequency, strict=True) if x is not None and y is not None]
    return [x for x, _ in filled], [y for _, y in filled]
