"""What may be asked of a prediction, checked before anything is read; each mistake is a line that names its option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bts_auto.errors import PlanError
from bts_auto.plan.schema import SegmentationConfiguration
from bts_auto.predict.tiles import Tile, divisors, tile_size


def checked_settings(
    *,
    tta: bool | Sequence[int] = True,
    step_size: float | None = None,
    tile: Tile | None = None,
    fast: bool = False,
    **others: Any,
) -> dict[str, Any]:
    """Arguments of :class:`bts_auto.predict.predictor.CasePredictor`, axes sorted and each once.

    Raises
    ------
    PlanError
        For a step size that is none, and for axes beside `fast`, which mirrors nothing.
    """
    if step_size is not None and not 0 < step_size <= 1:
        raise PlanError(f"{step_size} is no step size", where="--step-size", mend="give more than 0 and at most 1")
    if not isinstance(tta, bool):
        if fast:
            raise PlanError("--fast mirrors nothing, --tta-axes asks for it", mend="leave out one of them")
        tta = tuple(sorted(set(tta)))
    return {"tta": tta, "step_size": step_size, "tile": tile, "fast": fast, **others}


def check_for(configuration: SegmentationConfiguration, *, tta: Any = True, tile: Any = None, **_: Any) -> None:
    """Refuse axes and tiles that a network of this configuration cannot have.

    Raises
    ------
    PlanError
        With the axes that there are, or how a tile is written.
    """
    dims = configuration.dims
    wrong = [] if isinstance(tta, bool) else [axis for axis in tta if not 0 <= axis < dims]
    if wrong:
        there = ", ".join(map(str, range(dims)))
        raise PlanError(f"the network has no axis {wrong[0]}", where="--tta-axes", mend=f"it has {there}")
    if tile is not None:
        patch = configuration.patch_size
        try:
            tile_size(tile, patch, patch, divisors(configuration))
        except PlanError as error:
            raise PlanError(error.what, where="--tile", mend=error.mend) from None
