"""The main job on real MRI, as the README shows it, and nnU-Net on the same patients for as many steps.

    python benchmarks/main_job.py              # goes on where it was stopped

The commands of ours, each measured from outside (wall time, peak memory of its process tree), then the Dice of WT, TC
and ET on the patient that fold 0 holds out. nnU-Net trains with its own plan for 1 GB on the same three patients for
the same number of steps; its mask of the same patient is scored by the same code.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Ledger, measure
from peer import ROOT, cache, nnunet_bin, nnunet_environment, real_data

DATASET = "Dataset021_BraTS2013"
EPOCHS, ITERATIONS = "10", "25"
REGIONS = ("WT", "TC", "ET")
COMMANDS = {
    "plan and preprocess": ["bts_plan_and_preprocess", "-d", "21", "--gpu-memory", "1"],
    "train": ["bts_train", "3d_fullres", "0", "--epochs", EPOCHS, "--iterations", ITERATIONS],
    "predict": ["bts_predict", "-i", "in", "-o", "out"],
    "ensemble": ["bts_ensemble"],
    "evaluate": ["bts_evaluate"],
}


def ours(folder: Path, ledger: Ledger) -> dict[str, float]:
    """Run the commands in `folder`; returns the Dice on the held-out patient."""
    workspace = folder / "bts_workspace"
    if not (workspace / "raw" / DATASET).exists():
        shutil.copytree(real_data() / DATASET, workspace / "raw" / DATASET)
    bin_folder = Path(sys.executable).parent
    for name, command in COMMANDS.items():
        if name == "predict":
            _copy_held_out(workspace, folder / "in")
        if not ledger.of(name):
            print(f"{' '.join(command)} ...", file=sys.stderr)
            arguments = [str(bin_folder / command[0]), *command[1:]]
            ledger.add(name, measure(arguments, log=folder / f"{command[0]}.log", cwd=folder))
    return _dice(folder / "out", workspace)


def _copy_held_out(workspace: Path, destination: Path) -> None:
    destination.mkdir(exist_ok=True)
    for path in (workspace / "raw" / DATASET / "imagesTr").glob(f"{held_out(workspace)}_*"):
        shutil.copy(path, destination)


def splits(workspace: Path) -> list[dict]:
    """The dataset's folds."""
    return json.loads((workspace / "preprocessed" / DATASET / "splits.json").read_text())


def held_out(workspace: Path) -> str:
    """The one case that fold 0 holds out."""
    return splits(workspace)[0]["val"][0]


def nnunet(folder: Path, ledger: Ledger) -> dict[str, float]:
    """Train nnU-Net in `folder` on the same split; returns the Dice on the held-out patient."""
    workspace = folder / "bts_workspace"
    environment = nnunet_environment(folder)
    raw, made = folder / "raw" / DATASET, folder / "nnunet_preprocessed" / DATASET
    if not raw.exists():
        shutil.copytree(real_data() / DATASET, raw)
    if not (made / "nnUNetPlans_3d_fullres").exists():
        plan = ["nnUNetv2_plan_and_preprocess", "-d", "21", "-gpu_memory_target", "1", "-c", "3d_fullres", "-np", "2"]
        measure([str(nnunet_bin() / plan[0]), *plan[1:]], environment=environment, log=folder / "nnunet_plan.log")
    (made / "splits_final.json").write_text(json.dumps(splits(workspace)))
    masks = folder / "nnunet_results" / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
    if not (masks / "summary.json").exists():
        print("nnU-Net trains ...", file=sys.stderr)
        script = [str(nnunet_bin() / "python"), str(ROOT / "benchmarks" / "nnunet_train.py")]
        command = [*script, "21", "3d_fullres", "0", EPOCHS, ITERATIONS]
        ledger.add("nnU-Net train", measure(command, environment=environment, log=folder / "nnunet_train.log"))
    return _dice(masks, workspace)


def _dice(masks: Path, workspace: Path) -> dict[str, float]:
    scored = masks.parent / f"scores_of_{masks.name}"
    command = [str(Path(sys.executable).parent / "bts_evaluate"), "-d", "21", "--workspace", str(workspace), "--json"]
    answer = subprocess.run(
        [*command, "-p", str(masks), "-o", str(scored)], check=True, capture_output=True, text=True
    ).stdout
    return {region: json.loads(answer)["mean"][region]["dice"] for region in REGIONS}


def main() -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-nnunet", action="store_true", help="only ours")
    arguments = parser.parse_args()
    folder = cache() / "main_job"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "runs.json")
    dice = {"bts_auto": ours(folder, ledger)}
    if not arguments.without_nnunet:
        dice["nnU-Net 2.8.1"] = nnunet(folder, ledger)
    for row in ledger.rows:
        print(f"{row['name']:22} {row['seconds']:8.1f} s   peak {row['peak_bytes'] / 1e6:6.0f} MB")
    print(f"Dice on {held_out(folder / 'bts_workspace')}, {int(EPOCHS) * int(ITERATIONS)} steps on three patients:")
    for name, values in dice.items():
        print(f"{name:22} " + "   ".join(f"{region} {value:.3f}" for region, value in values.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
