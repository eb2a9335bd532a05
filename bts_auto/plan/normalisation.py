"""Which normalisation a channel gets, from its name in dataset.json."""

from __future__ import annotations

from collections.abc import Sequence

# nnunetv2.preprocessing.normalization.map_channel_name_to_normalization; names compare without regard to case.
_BY_NAME = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
_DEFAULT = "ZScoreNormalization"
# Below this share of voxels left by the non-zero crop, intensities are normalised inside the mask only
# (ExperimentPlanner.determine_normalization_scheme_and_whether_mask_is_used_for_norm).
MASK_BELOW_SHARE = 3 / 4
# The one scheme that leaves voxels outside the mask at zero.
_MASKED = "ZScoreNormalization"


def normalisation_schemes(channels: Sequence[str], relative_size_after_crop: float) -> tuple[list[str], list[bool]]:
    """The scheme of each channel, and whether its statistics come from inside the non-zero mask.

    Parameters
    ----------
    channels : sequence of str
        Channel names.
    relative_size_after_crop : float
        Median share of a case's voxels that the non-zero crop keeps.
    """
    schemes = [_BY_NAME.get(name.casefold(), _DEFAULT) for name in channels]
    cropped = relative_size_after_crop < MASK_BELOW_SHARE
    return schemes, [cropped and scheme == _MASKED for scheme in schemes]
