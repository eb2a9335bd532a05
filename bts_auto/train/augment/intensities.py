"""How bright the channels of whole cases are, for transforms that bring one case to the level of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

N_QUANTILES = 65
# So many voxels of a case tell its quantiles to about a thousandth.
_ENOUGH_VOXELS = 200_000


class CaseIntensities:
    """Quantiles of each channel inside the brain, read when they are first asked for.

    Parameters
    ----------
    cases : sequence of str
        Those that may be taken as an example.
    open_case : callable
        Name -> stored case.
    """

    def __init__(self, cases: Sequence[str], open_case: Callable[[str], Any]) -> None:
        self.cases = tuple(cases)
        self._open = open_case
        self._known: dict[str, np.ndarray] = {}

    def quantiles(self, case: str) -> np.ndarray:
        """Evenly spaced quantiles from the lowest to the highest value, float32 of shape (c, N_QUANTILES)."""
        if case not in self._known:
            self._known[case] = self._measure(case)
        return self._known[case]

    def _measure(self, case: str) -> np.ndarray:
        stored = self._open(case)
        image, mask = stored.read([(0, n) for n in stored.shape[1:]])
        inside = np.flatnonzero(mask.reshape(-1) >= 0)
        if not inside.size:
            inside = np.arange(mask.size)
        inside = inside[:: max(1, inside.size // _ENOUGH_VOXELS)]
        values = image.reshape(len(image), -1)[:, inside]
        return np.ascontiguousarray(np.quantile(values, np.linspace(0, 1, N_QUANTILES), axis=1).T, np.float32)
