"""A made-up patient: a skull-stripped head with a glioma in four MRI sequences, for the demonstration and for tests.

Nothing here imitates a real person's scan; it imitates what makes the task hard: nested tissues of varying size and
place, overlapping intensities, a bias field, an arbitrary scale per scan, noise, and structures that are as bright as
tumour on T2 and FLAIR without being tumour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bts_auto.data.readers import write_map, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.events import SILENT, Observer
from bts_auto.files import write_json

SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
NECROSIS, EDEMA, ENHANCING = 1, 2, 3
SHAPE = (72, 88, 72)
SPACING_MM = 2.0

# Relative signal of each tissue in the four sequences, in the order of `SEQUENCES`. What counts is who resembles
# whom: edema and gliosis differ on T1 only, necrosis and fluid on FLAIR and by place, enhancing rim and vessels by
# place and shape.
_SIGNAL = {
    "grey": (0.62, 0.64, 0.62, 0.62),
    "white": (0.88, 0.90, 0.46, 0.50),
    "fluid": (0.28, 0.28, 1.20, 0.18),
    "gliosis": (0.86, 0.88, 0.98, 1.12),
    "vessel": (0.70, 1.30, 0.35, 0.45),
    "edema": (0.56, 0.57, 0.98, 1.06),
    "enhancing": (0.62, 1.28, 0.84, 0.86),
    "necrosis": (0.32, 0.36, 1.14, 0.42),
}


@dataclass(frozen=True)
class Phantom:
    """One made-up patient: `images` float32 (4, z, y, x) in the order of `SEQUENCES`, `mask` uint8 (z, y, x)."""

    images: np.ndarray
    mask: np.ndarray


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian random field with zero mean and unit deviation; `sigma` in voxels sets the size of its blobs."""
    # Large blobs need few samples: they are drawn on a coarser grid and interpolated.
    step = max(1, int(sigma / 2))
    coarse = tuple(-(-size // step) + 1 for size in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, step, order=1)[tuple(slice(size) for size in shape)]
    else:
        field = field[tuple(slice(size) for size in shape)]
    return (field - field.mean()) / field.std()


def _radius(shape: tuple[int, ...], centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Distance from `centre` in units of the ellipsoid's half `axes`, both (z, y, x) in voxels."""
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    return np.sqrt(sum(((g - c) / a) ** 2 for g, c, a in zip(grids, centre, axes, strict=True))).astype(np.float32)


def _anatomy(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Masks of the healthy head and of what can be taken for tumour; later entries lie over earlier ones."""
    middle = np.array(shape) / 2
    axes = np.array(shape) * 0.45 * rng.uniform(0.93, 1.0, 3)
    radius = _radius(shape, middle, axes) + 0.03 * _smooth_noise(rng, shape, 4)
    brain = radius < 1
    ventricles = np.zeros(shape, bool)
    for side in (-1, 1):
        centre = middle + np.array([0.02, 0.0, side * 0.09]) * shape + rng.uniform(-1, 1, 3)
        size = np.array(shape) * np.array([0.10, 0.20, 0.045]) * rng.uniform(0.7, 1.3)
        ventricles |= _radius(shape, centre, size) + 0.12 * _smooth_noise(rng, shape, 3) < 1
    folds = _smooth_noise(rng, shape, 2)
    white = (radius < 0.80 + 0.07 * folds) & brain
    sulci = brain & (radius > 0.86) & (folds > 1.2)
    caps = ndimage.binary_dilation(ventricles, iterations=2) & ~ventricles & (_smooth_noise(rng, shape, 5) > -0.2)
    spots = white & (_smooth_noise(rng, shape, 2.5) > 2.1)
    base = brain & (radius > 0.72) & (_smooth_noise(rng, shape, 6) > 0.6)
    vessels = brain & (np.abs(_smooth_noise(rng, shape, 5)) < 0.05) & (_smooth_noise(rng, shape, 5) > 1.0)
    return {
        "grey": brain,
        "white": white,
        "gliosis": (caps | spots | base) & brain,
        "vessel": vessels,
        "fluid": (ventricles | sulci) & brain,
    }


def _tumour(rng: np.random.Generator, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Nested edema, enhancing rim and necrosis, of random size and place inside the brain."""
    shape = brain.shape
    depth = ndimage.distance_transform_edt(brain)
    places = np.argwhere(depth > 0.35 * depth.max())
    centre = places[rng.integers(len(places))].astype(float)
    core_radius = rng.uniform(5, 9.5)
    lumps = _smooth_noise(rng, shape, 4)
    distance = _radius(shape, centre, rng.uniform(0.8, 1.25, 3)) + 1.3 * lumps
    core = (distance < core_radius) & brain
    necrosis = distance < core_radius - rng.uniform(2.0, 3.2)
    reach = distance + 2.0 * _smooth_noise(rng, shape, 5)
    edema = (reach < core_radius + rng.uniform(3, 6)) & brain
    return {"edema": edema | core, "enhancing": core, "necrosis": necrosis & core}


def make_phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> Phantom:
    """Make one patient; the same seed makes the same patient.

    Parameters
    ----------
    seed : int
        Seed of every random draw.
    shape : tuple of int
        Voxels along (z, y, x).
    """
    rng = np.random.default_rng(seed)
    healthy = _anatomy(rng, shape)
    brain = healthy["grey"]
    tumour = _tumour(rng, brain)
    labels = np.zeros(shape, np.uint8)
    for name, value in (("edema", EDEMA), ("enhancing", ENHANCING), ("necrosis", NECROSIS)):
        labels[tumour[name]] = value

    images = np.zeros((len(SEQUENCES), *shape), np.float32)
    texture = _smooth_noise(rng, shape, 1.0)
    for channel in range(len(SEQUENCES)):
        signal = np.zeros(shape, np.float32)
        for name, where in (healthy | tumour).items():
            signal[where] = _SIGNAL[name][channel] * rng.uniform(0.94, 1.06)
        signal = ndimage.gaussian_filter(signal, 0.6) * (1 + 0.04 * texture)
        signal *= np.exp(0.18 * _smooth_noise(rng, shape, 22))
        noise = 0.05 * rng.standard_normal((2, *shape), dtype=np.float32)
        rician = np.hypot(signal + noise[0], noise[1])  # magnitude of a complex signal with Gaussian noise
        images[channel] = np.where(brain, rician * rng.uniform(300, 700), 0)
    return Phantom(np.round(images), labels)


def write_phantom_dataset(
    folder: Path, *, training: int, unseen: int, seed: int = 0, observer: Observer = SILENT
) -> tuple[Path, Path, Path]:
    """Write a raw dataset of phantoms in nnU-Net v2's format.

    Parameters
    ----------
    folder : Path
        The dataset's folder, ``DatasetXXX_Name``; made when missing.
    training, unseen : int
        Number of cases in ``imagesTr`` and ``imagesTs``; the masks of the latter go to ``labelsTs``.

    Returns
    -------
    tuple of Path
        The dataset's folder, ``imagesTs`` and ``labelsTs``.
    """
    geometry = Geometry(size=SHAPE, spacing=(SPACING_MM,) * 3)
    for number in observer.track(range(training + unseen), "making phantom patients"):
        subset = "Tr" if number < training else "Ts"
        case = f"phantom_{number:03d}"
        phantom = make_phantom(seed * 100_003 + number)
        for channel, image in enumerate(phantom.images):
            write_map(folder / f"images{subset}" / f"{case}_{channel:04d}.nii.gz", image, geometry)
        write_mask(folder / f"labels{subset}" / f"{case}.nii.gz", phantom.mask, geometry)
    document = {
        "name": "Phantom",
        "channel_names": {str(i): name for i, name in enumerate(SEQUENCES)},
        "labels": {"background": 0, "necrosis": NECROSIS, "edema": EDEMA, "enhancing": ENHANCING},
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", document)
    return folder, folder / "imagesTs", folder / "labelsTs"


def best_threshold(images: list[np.ndarray], masks: list[np.ndarray], steps: int = 60) -> tuple[int, float, float]:
    """The single-sequence threshold with the best mean Dice of the whole tumour.

    Intensities are divided by each scan's mean inside the head, since their scale is arbitrary. Every voxel above the
    threshold counts, as a threshold without further rules would have it.

    Returns
    -------
    tuple
        Channel, threshold (in units of that mean) and the mean Dice over the cases given.
    """
    best = (0, 0.0, -1.0)
    for channel in range(images[0].shape[0]):
        for threshold in np.linspace(0.5, 3.0, steps):
            score = threshold_dice(images, masks, channel, float(threshold))
            if score > best[2]:
                best = (channel, float(threshold), score)
    return best


def threshold_dice(images: list[np.ndarray], masks: list[np.ndarray], channel: int, threshold: float) -> float:
    """Mean Dice of the whole tumour when `channel` is cut at `threshold` times its mean inside the head."""
    scores = []
    for image, mask in zip(images, masks, strict=True):
        array = image[channel]
        found = array > threshold * array[array > 0].mean()
        tumour = mask > 0
        scores.append(2 * np.count_nonzero(found & tumour) / max(1, found.sum() + tumour.sum()))
    return float(np.mean(scores))
