"""The four network presets of the planner: what is built, and the reference that its size is measured against.

The numbers are those of nnU-Net v2.8.1's `ExperimentPlanner` (plain) and `nnUNetPlannerResEnc{M,L,XL}` (Isensee et al.,
"nnU-Net Revisited", MICCAI 2024). They are facts of that system: equal numbers are what makes equal plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bts_auto.errors import PlanError

PresetName = Literal["plain", "resenc_m", "resenc_l", "resenc_xl"]

# Width of the first stage; it doubles with each stage up to the bound (ExperimentPlanner.UNet_base_num_features and
# UNet_max_features_2d / _3d).
BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
# Convolutions or residual blocks per encoder stage; the last number goes on for ever (UNet_blocks_per_stage_encoder).
_PLAIN_ENCODER = (2,)
_RESIDUAL_ENCODER = (1, 3, 4, 6)
# Batch sizes for which the references below were found (UNet_reference_val_corresp_bs_2d / _3d).
REFERENCE_BATCH = {2: 12, 3: 2}
MIN_BATCH = 2  # ExperimentPlanner.UNet_min_batch_size


@dataclass(frozen=True)
class Preset:
    """One family of networks.

    Attributes
    ----------
    network : str
        The registered network that is built.
    encoder : tuple of int
        Convolutions (plain) or residual blocks per encoder stage; the last number repeats.
    decoder : int
        Convolutions per decoder stage.
    reference : mapping of int to int
        For 2 and 3 dimensions: feature-map voxels of one sample at which `REFERENCE_BATCH` fits `reference_gb`.
    reference_gb : float
        GPU memory, in GB, that `reference` stands for; also what is planned for when no memory is named.
    max_dataset_share : float
        A batch covers at most this share of the dataset's voxels.
    batch_aware : bool
        Whether the bound on the patch counts `MIN_BATCH` samples (plain) or takes `reference` as it is (residual).
    """

    name: PresetName
    network: str
    encoder: tuple[int, ...]
    decoder: int
    reference: dict[int, int]
    reference_gb: float
    max_dataset_share: float
    batch_aware: bool

    @property
    def residual(self) -> bool:
        """Whether the encoder consists of residual blocks."""
        return self.network == "residual_unet"

    def encoder_blocks(self, n_stages: int) -> tuple[int, ...]:
        """Convolutions or residual blocks of each encoder stage."""
        return tuple(self.encoder[min(stage, len(self.encoder) - 1)] for stage in range(n_stages))

    def decoder_convolutions(self, n_stages: int) -> tuple[int, ...]:
        """Convolutions of each decoder stage, lowest resolution first."""
        return (self.decoder,) * (n_stages - 1)

    def network_options(self, n_stages: int) -> dict[str, list[int]]:
        """Options of the network component that do not follow from the topology."""
        encoder = "n_blocks_per_stage" if self.residual else "n_conv_per_stage"
        return {
            encoder: list(self.encoder_blocks(n_stages)),
            "n_conv_per_stage_decoder": list(self.decoder_convolutions(n_stages)),
        }

    def reference_voxels(self, dims: int, gpu_memory_gb: float) -> float:
        """Feature-map voxels that a memory target stands for; linear in the memory."""
        return self.reference[dims] * (gpu_memory_gb / self.reference_gb)


# ExperimentPlanner.max_dataset_covered; the three residual planners lift the bound.
_SHARE_PLAIN, _SHARE_RESIDUAL = 0.05, 1.0


def _residual(name: PresetName, reference_3d: int, reference_2d: int, gb: float) -> Preset:
    reference = {2: reference_2d, 3: reference_3d}
    return Preset(name, "residual_unet", _RESIDUAL_ENCODER, 1, reference, gb, _SHARE_RESIDUAL, batch_aware=False)


PRESETS: dict[str, Preset] = {
    "plain": Preset(
        "plain", "plain_unet", _PLAIN_ENCODER, 2, {2: 85_000_000, 3: 560_000_000}, 8, _SHARE_PLAIN, batch_aware=True
    ),
    "resenc_m": _residual("resenc_m", 680_000_000, 135_000_000, 8),
    "resenc_l": _residual("resenc_l", 2_100_000_000, 380_000_000, 24),
    "resenc_xl": _residual("resenc_xl", 3_600_000_000, 560_000_000, 40),
}


def find_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises
    ------
    PlanError
        When there is none.
    """
    if name not in PRESETS:
        raise PlanError(f"no preset is called '{name}'", mend=f"known are {', '.join(PRESETS)}")
    return PRESETS[name]


def features_per_stage(n_stages: int, dims: int) -> tuple[int, ...]:
    """Channels of each stage."""
    return tuple(min(MAX_FEATURES[dims], BASE_FEATURES * 2**stage) for stage in range(n_stages))
