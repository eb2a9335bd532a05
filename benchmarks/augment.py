"""Augmentation on one thread: ours against nnU-Net v2's list made of batchgeneratorsv2's transforms.

Prints milliseconds of processor time per sample. Both start from the same volume in memory and end with an augmented
patch. nnU-Net's pipeline always reads the enlarged patch (128^3 -> 205^3), as its data loader does; ours reads what the
drawn parameters need. Samples alternate between the two, so that whatever else the machine does hits both alike; the
ratio is what counts.

    python benchmarks/augment.py [--patch 128 64] [--labels 2 26 105] [--samples 40] [--out augment.json]

Rows that stand in ``--out`` already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from scipy.spatial import cKDTree

from bts_auto.files import read_json, write_json
from bts_auto.train.augment.defaults import default_augmentation
from bts_auto.train.augment.pipeline import Augmentation

VOLUME = (140, 172, 140)  # a skull-stripped brain at 1 mm
CHANNELS = 4
# Patch edges that nnU-Net reads for rotations of 30 degrees and scales down to 0.85.
ENLARGED = {128: 205, 96: 154, 64: 102, 32: 51}

Sample = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


def make_volume(labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random channels (c, z, y, x) and a mask in which `labels` - 1 compact structures fill the brain."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in VOLUME], indexing="ij"), -1)
    brain = (grid**2).sum(-1) < 0.95
    points = rng.uniform(-0.8, 0.8, (max(2, labels - 1), 3))
    nearest = cKDTree(points).query(grid[brain])[1]
    mask = np.full(VOLUME, -1, dtype=np.int16)
    mask[brain] = (nearest + 1) if labels > 2 else nearest
    image = rng.standard_normal((CHANNELS, *VOLUME), dtype=np.float32)
    image += mask % 7
    image[:, ~brain] = 0
    return image, mask


def nnunet_transforms(patch: tuple[int, ...]) -> ComposeTransforms:
    """The list of nnUNetTrainer.get_training_transforms (2.8.1) for an isotropic 3D patch."""
    angle = 30 / 360 * 2 * np.pi

    def sometimes(transform: object, probability: float) -> RandomTransform:
        return RandomTransform(transform, apply_probability=probability)

    def gamma(invert: int) -> GammaTransform:
        return GammaTransform(BGContrast((0.7, 1.5)), invert, False, 1, 1)

    return ComposeTransforms(
        [
            SpatialTransform(
                patch,
                patch_center_dist_from_border=0,
                random_crop=False,
                p_elastic_deform=0,
                p_rotation=0.2,
                rotation=(-angle, angle),
                p_scaling=0.2,
                scaling=(0.7, 1.4),
                p_synchronize_scaling_across_axes=1,
                bg_style_seg_sampling=False,
                border_mode_seg="constant",
                padding_value_seg=-1,
            ),
            sometimes(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
            sometimes(GaussianBlurTransform((0.5, 1.0), False, False, 0.5, True), 0.2),
            sometimes(MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), False, 1), 0.15),
            sometimes(ContrastTransform(BGContrast((0.75, 1.25)), True, False, 1), 0.15),
            sometimes(SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 0.5), 0.25),
            sometimes(gamma(1), 0.1),
            sometimes(gamma(0), 0.3),
            MirrorTransform((0, 1, 2)),
            RemoveLabelTansform(-1, 0),
        ]
    )


def centre(step: int) -> list[int]:
    """Where the patch of a sample lies; the same for both pipelines."""
    rng = np.random.default_rng([9, step])
    return [int(rng.integers(n // 3, 2 * n // 3)) for n in VOLUME]


def crop(image: np.ndarray, mask: np.ndarray, box: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a box with padding."""
    limits = [list(one) for one in box]
    cropped = torch.from_numpy(crop_and_pad_nd(image, limits, 0)).float()
    return cropped, torch.from_numpy(crop_and_pad_nd(mask, limits, -1).astype(np.int16))[None]


def theirs(image: np.ndarray, mask: np.ndarray, edge: int) -> Sample:
    """nnU-Net's way."""
    transforms, read = nnunet_transforms((edge,) * 3), ENLARGED[edge]

    def sample(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(step)
        np.random.seed(step)  # noqa: NPY002  their transforms draw from the global generators
        box = [(at - read // 2, at - read // 2 + read) for at in centre(step)]
        data, target = crop(image, mask, box)
        out = transforms(image=data, segmentation=target)
        return out["image"], out["segmentation"]

    return sample


def ours(image: np.ndarray, mask: np.ndarray, edge: int) -> Sample:
    """Parameters first."""
    patch = (edge,) * 3
    augmentation = Augmentation(default_augmentation(patch, 3, (0, 1, 2)), patch, channels=CHANNELS)

    def sample(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        lower = [at - edge // 2 for at in centre(step)]
        draw = augmentation.draw(0, step, 0)
        box = draw.read_box(lower, VOLUME)
        data, target = crop(image, mask, box)
        offset = [first - at for (first, _), at in zip(box, lower, strict=True)]
        out, target = augmentation.apply(draw, data, target, offset)
        return out, target.clamp_(min=0)

    return sample


def measure(edge: int, labels: int, samples: int) -> dict[str, float]:
    """Mean milliseconds per sample of both, measured in turn."""
    image, mask = make_volume(labels)
    spent = {"ours": [], "nnunet": []}  # type: dict[str, list[float]]
    pipelines = {"ours": ours(image, mask, edge), "nnunet": theirs(image, mask, edge)}
    for sample in pipelines.values():
        for step in range(3):
            sample(10**6 + step)
    for step in range(samples):
        for name, sample in pipelines.items():
            start = time.process_time()
            sample(step)
            spent[name].append((time.process_time() - start) * 1e3)
    means = {name: float(np.mean(times)) for name, times in spent.items()}
    return {**means, "ratio": means["nnunet"] / means["ours"], "worst_ours": max(spent["ours"])}


def main() -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs="+", default=[128, 64], choices=sorted(ENLARGED))
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 26, 105])
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_json(arguments.out) if arguments.out and arguments.out.exists() else {}
    print(f"{'patch':>6} {'labels':>6} {'ours ms':>8} {'nnU-Net ms':>11} {'ratio':>6} {'worst ours':>11}")
    for edge in arguments.patch:
        for labels in arguments.labels:
            key = json.dumps([edge, labels, arguments.samples])
            if key not in rows:
                rows[key] = measure(edge, labels, arguments.samples)
                if arguments.out:
                    write_json(arguments.out, rows)
            row = rows[key]
            print(
                f"{edge:>6} {labels:>6} {row['ours']:>8.1f} {row['nnunet']:>11.1f} {row['ratio']:>6.2f}"
                f" {row['worst_ours']:>11.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
