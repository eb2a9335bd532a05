"""The whole pipeline on made-up patients, through the same verbs that every user calls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.errors import BtsError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json
from bts_auto.steps.place import Outcome

DATASET = "Dataset001_Phantom"
TRAINING_CASES, UNSEEN_CASES = 10, 4
# The phantom is small: a patch that a quarter of a GB holds covers most of it, and a few hundred steps suffice.
GPU_MEMORY_GB = 0.25
EPOCHS, ITERATIONS = 10, 25
# Seconds that each training may take at most: on a slow machine it is shorter, its learning rate annealed all the same.
BUDGET_S = {"3d_fullres": 150.0, "2d": 30.0}
REGIONS = ("WT", "TC", "ET")


def _best_threshold_on_unseen(raw: Path) -> float:
    """WT Dice on the unseen cases of the best single-sequence threshold, tuned on the training cases."""
    from bts_auto.data.phantom import SEQUENCES, best_threshold, threshold_dice
    from bts_auto.data.readers import read_mask, read_volume

    def read(subset: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        images, masks = [], []
        for path in sorted((raw / f"labels{subset}").glob("*.nii.gz")):
            case = path.name.removesuffix(".nii.gz")
            files = [raw / f"images{subset}" / f"{case}_{i:04d}.nii.gz" for i in range(len(SEQUENCES))]
            images.append(read_volume(files, SEQUENCES).array)
            masks.append(read_mask(path)[0])
        return images, masks

    channel, threshold, _ = best_threshold(*read("Tr"))
    return threshold_dice(*read("Ts"), channel, threshold)


def demo(folder: Path, *, device: str = "auto", observer: Observer = SILENT) -> Outcome:
    """Make phantom patients, then plan, preprocess, train, choose, predict and evaluate them.

    Parameters
    ----------
    folder : Path
        Where everything goes; a finished demonstration is picked up, not made again.
    """
    from bts_auto import steps
    from bts_auto.data.phantom import write_phantom_dataset

    started = time.monotonic()
    workspace, raw = folder / "workspace", folder / "workspace" / "raw" / DATASET
    here: dict[str, Any] = {"dataset": DATASET, "workspace": workspace, "observer": observer}
    if not (raw / "dataset.json").exists():
        if raw.exists() or (folder.exists() and any(folder.iterdir()) and not workspace.exists()):
            raise BtsError("is not empty", where=folder, mend="give an empty or new folder with -o")
        write_phantom_dataset(raw, training=TRAINING_CASES, unseen=UNSEEN_CASES, observer=observer)
    steps.plan_and_preprocess(gpu_memory=GPU_MEMORY_GB, configurations=tuple(BUDGET_S), **here)
    length: dict[str, Any] = {"epochs": EPOCHS, "iterations": ITERATIONS}
    for configuration, budget in BUDGET_S.items():
        steps.train(configuration, "0", **length, budget=budget, device=device, **here)
    steps.choose(**here)
    predictions = folder / "predictions"
    predicted = steps.predict(raw / "imagesTs", predictions, device=device, preview=True, **here)
    scored = steps.evaluate(predictions, raw / "labelsTs", output=folder / "scores", **here)

    dice = {region: scored.data["mean"][region]["dice"] for region in REGIONS}
    threshold = _best_threshold_on_unseen(raw)
    best = read_json(workspace / "results" / DATASET / "best.json")
    minutes = (time.monotonic() - started) / 60
    lines = (
        "",
        f"Dice on {UNSEEN_CASES} unseen phantom patients: "
        + ", ".join(f"{name} {value:.3f}" for name, value in dice.items()),
        f"Best single-sequence threshold, tuned on the training patients: WT {threshold:.3f}",
        f"Time: {minutes:.1f} min",
        f"Masks: {predictions}",
        f"Pictures: {predictions / 'previews'}",
        f"Scores: {folder / 'scores'}",
        f"Trained models, journals and plots: {workspace / 'results' / DATASET}",
    )
    data = {"dice": dice, "threshold_dice": threshold, "minutes": minutes, "folder": str(folder), "best": best}
    return Outcome(predicted.done, (*predicted.failures, *scored.failures), data, lines)
