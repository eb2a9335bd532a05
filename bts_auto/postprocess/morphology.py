"""Morphological opening and closing of a region."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bts_auto.evaluate.pair import union_box
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import MorphologyOptions
from bts_auto.postprocess.relabel import relabel


def morphology(mask: np.ndarray, context: Context, options: MorphologyOptions) -> np.ndarray:
    """Open a region (what is thinner than the ball goes) or close it (gaps thinner than the ball are filled).

    Closing paints only background.
    """
    region = context.mask(mask, options.region)
    ball = _ball(options.radius_mm, context.spacing)
    margin = tuple(n // 2 for n in ball.shape)
    box = tuple(
        slice(max(s.start - m, 0), min(s.stop + m, n)) if s.stop else s
        for s, m, n in zip(union_box(region), margin, mask.shape, strict=True)
    )
    inner = region[box]
    if inner.size == 0:
        return mask.copy()
    if options.operation == "open":
        lost = np.zeros_like(region)
        lost[box] = inner & ~ndimage.binary_opening(inner, ball)
        return relabel(mask, lost, context, options.becomes, options.region)
    out = mask.copy()
    # Outside the image counts as region while eroding, else closing would eat into what touches the edge.
    padded = np.pad(inner, [(m, m) for m in margin])
    eroded = ndimage.binary_erosion(ndimage.binary_dilation(padded, ball), ball, border_value=1)
    closed = eroded[tuple(slice(m, m + n) for m, n in zip(margin, inner.shape, strict=True))]
    gained = closed & ~inner & (out[box] == 0)
    out[box][gained] = _nearest(out[box], inner, gained, context, options.label)
    return out


def _nearest(
    part: np.ndarray, region: np.ndarray, gained: np.ndarray, context: Context, label: str | None
) -> np.ndarray | int:
    if label is not None:
        return context.painted(label)
    nearest = ndimage.distance_transform_edt(
        ~region, sampling=context.spacing, return_distances=False, return_indices=True
    )
    return part[tuple(axis[gained] for axis in nearest)]


def _ball(radius_mm: float, spacing: tuple[float, ...]) -> np.ndarray:
    """Voxels whose centres lie within `radius_mm` of the middle one."""
    reach = [int(radius_mm / s) for s in spacing]
    axes = np.meshgrid(*[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing, strict=True)], indexing="ij")
    return sum(axis**2 for axis in axes) <= radius_mm**2 * (1 + 1e-9)
