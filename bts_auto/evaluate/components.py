"""Connected components, by cc3d where it is installed, else by SciPy."""

from __future__ import annotations

from typing import Literal

import numpy as np

Connectivity = Literal[6, 18, 26]
_SCIPY_RANK = {6: 1, 18: 2, 26: 3}


def label_components(mask: np.ndarray, connectivity: Connectivity = 26) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected components of a boolean `mask` (z, y, x).

    Returns
    -------
    components : ndarray of int, shape (z, y, x)
        0 outside, else 1 to n.
    sizes : ndarray of int, shape (n + 1,)
        Voxels of each, the outside first.
    """
    try:
        import cc3d
    except ImportError:
        from scipy import ndimage

        structure = ndimage.generate_binary_structure(3, _SCIPY_RANK[connectivity])
        components, count = ndimage.label(mask, structure)
    else:
        components, count = cc3d.connected_components(
            np.ascontiguousarray(mask), connectivity=connectivity, return_N=True, binary_image=True
        )
    return components, np.bincount(components.ravel(), minlength=count + 1)
