"""Masks of imported nnU-Net models against nnU-Net's own, for models of several kinds that nnU-Net itself trains here.

    python benchmarks/imported.py            # goes on where it was stopped; minutes

Made-up patients (`bts_auto.data.phantom`). Each model is trained for 60 steps, as only the equality of the masks
counts, and predicts two patients that it has not seen, with and without mirroring, both programs in single precision.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import SimpleITK
from peer import ROOT, cache, fresh, nnunet_bin, nnunet_environment
from predict import agreement, masks

from bts_auto.data.phantom import SEQUENCES, make_phantom

LABELS = {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}
REGIONS = {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3}
TRAINING, UNSEEN = 6, 2
STEPS = ("4", "15")  # epochs, and steps of each: enough to find every label


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes
    ----------
    dataset : int
    slices : int
        Every n-th slice is kept, n mm apart.
    labels : dict
        Of dataset.json.
    planner, plans, trainer, configuration : str
        nnU-Net's.
    folds : tuple of int
    """

    dataset: int
    slices: int
    labels: dict
    planner: str = "ExperimentPlanner"
    plans: str = "nnUNetPlans"
    trainer: str = "nnUNetTrainer"
    configuration: str = "3d_fullres"
    folds: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """Its folder among the raw datasets."""
        return f"Dataset{self.dataset:03d}_Phantom"

    @property
    def model(self) -> str:
        """Its folder among the results."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"


KINDS = {
    "isotropic, softmax, plain, two folds": Kind(801, 1, LABELS, folds=(0, 1)),
    "anisotropic (4 mm), regions, plain, two folds": Kind(802, 4, REGIONS, folds=(0, 1)),
    "isotropic, regions, residual encoder, no deep supervision": Kind(
        803, 1, REGIONS, "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "nnUNetTrainerNoDeepSupervision"
    ),
    "anisotropic, softmax, 2D": Kind(804, 4, LABELS, configuration="2d"),
}


def write(kind: Kind, raw: Path) -> Path:
    """The raw dataset; returns the folder with the unseen patients."""
    folder = raw / kind.name
    if (folder / "dataset.json").exists():
        return folder / "imagesTs"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(TRAINING + UNSEEN):
        patient, images = make_phantom(number, (64, 64, 64)), "imagesTr" if number < TRAINING else "imagesTs"
        arrays = {folder / images / f"p{number}_{c:04d}.nii.gz": image for c, image in enumerate(patient.images)}
        if number < TRAINING:
            arrays[folder / "labelsTr" / f"p{number}.nii.gz"] = patient.mask
        for path, array in arrays.items():
            image = SimpleITK.GetImageFromArray(array[:: kind.slices])
            image.SetSpacing((1.0, 1.0, float(kind.slices)))
            SimpleITK.WriteImage(image, str(path))
    document = {
        "channel_names": {str(c): name for c, name in enumerate(SEQUENCES)},
        "labels": kind.labels,
        "numTraining": TRAINING,
        "file_ending": ".nii.gz",
    }
    if kind.labels is REGIONS:
        document["regions_class_order"] = [1, 2, 3]
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder / "imagesTs"


def call(command: list[str], log: Path, environment: dict[str, str]) -> None:
    """Run a command; its output goes to a file."""
    import os

    with log.open("ab") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(f"{command[0]} failed, see {log}")


def compare(kind: Kind, folder: Path) -> list[str]:
    """Train what is missing, predict with both, and say how the masks agree."""
    environment = nnunet_environment(folder) | {"nnUNet_n_proc_DA": "1"}
    images, log = write(kind, folder / "raw"), folder / f"{kind.dataset}.log"
    model = folder / "nnunet_results" / kind.name / kind.model
    if not (folder / "nnunet_preprocessed" / kind.name / f"{kind.plans}_{kind.configuration}").exists():
        plan = ["nnUNetv2_plan_and_preprocess", "-d", str(kind.dataset), "-pl", kind.planner]
        plan += ["-gpu_memory_target", "1"] if kind.planner == "ExperimentPlanner" else []
        call([str(nnunet_bin() / plan[0]), *plan[1:], "-c", kind.configuration, "-np", "1"], log, environment)
    for fold in kind.folds:
        if not (model / f"fold_{fold}" / "checkpoint_final.pth").exists():
            script = [str(nnunet_bin() / "python"), str(ROOT / "benchmarks" / "nnunet_train.py"), str(kind.dataset)]
            options = ["--plans", kind.plans, "--trainer", kind.trainer, "--no-validation"]
            call([*script, kind.configuration, str(fold), *STEPS, *options], log, environment)
    found = []
    for mirrored in (False, True):
        theirs, own = (fresh(folder / f"{kind.dataset}_{name}") for name in ("nnunet", "ours"))
        command = [str(nnunet_bin() / "nnUNetv2_predict_from_modelfolder"), "-i", str(images), "-o", str(theirs)]
        command += ["-m", str(model), "-f", *map(str, kind.folds), "-device", "cpu", "-npp", "1", "-nps", "1"]
        call([*command, *([] if mirrored else ["--disable_tta"])], log, environment)
        package = folder / f"{kind.dataset}.zip"
        bin_folder = Path(sys.executable).parent
        call([str(bin_folder / "bts_import_nnunet"), str(model), "-o", str(package)], log, {})
        command = [str(bin_folder / "bts_predict"), "-i", str(images), "-o", str(own), "-m", str(package)]
        call([*command, "--precision", "fp32", *([] if mirrored else ["--no-tta"])], log, {})
        words = "mirrored" if mirrored else "plain"
        found.append(f"{words:9} {agreement(masks(own), masks(theirs))}")
    return found


def main() -> int:
    """Compare all kinds."""
    folder = cache() / "imported"
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in KINDS.items():
        print(name, flush=True)
        for line in compare(kind, folder):
            print(f"  {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
