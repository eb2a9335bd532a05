"""The same wall time for both: ours planned with --budget, nnU-Net with its own plan and its schedule scaled to it.

    python benchmarks/budget.py                              # 30 minutes, two patients; goes on where it was stopped
    python benchmarks/budget.py --budgets 5 15 30 --folds 0 --only ours

Dataset021_BraTS2013 has four patients, so that each fold trains on three and leaves one out. Ours plans, trains and
validates by its commands; its budget includes the validation. nnU-Net v2 plans for 1 GB and trains for the whole
budget; its start and its validation are not counted. Both masks of the unseen patient are scored by the same code. The
time that ours foretold is printed beside what it took.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Ledger, measure
from peer import ROOT, cache, nnunet_bin, nnunet_environment, real_data

DATASET = "Dataset021_BraTS2013"
REGIONS = ("WT", "TC", "ET")
BIN = Path(sys.executable).parent


def _workspace(folder: Path) -> Path:
    workspace = folder / "workspace"
    if not (workspace / "raw" / DATASET).exists():
        shutil.copytree(real_data() / DATASET, workspace / "raw" / DATASET)
    return workspace


def _ours(folder: Path, minutes: int, fold: int, ledger: Ledger) -> None:
    """Plan, preprocess, train and validate one fold, unless that is done."""
    if ledger.of(f"ours {minutes} min fold {fold}"):
        return
    workspace = _workspace(folder)
    common = ["-d", "21", "--workspace", str(workspace), "--budget", f"{minutes}m", "--device", "cpu"]
    measure([str(BIN / "bts_plan_and_preprocess"), *common], log=folder / "plan.log")
    plan = json.loads((workspace / "preprocessed" / DATASET / "plan.json").read_text())
    ((name, expected),) = plan["expected"].items()
    print(f"ours, {minutes} min, fold {fold} ...", file=sys.stderr)
    done = measure([str(BIN / "bts_train"), name, str(fold), *common], log=folder / f"train_{fold}.log")
    trained = workspace / "results" / DATASET / f"default__{name}" / f"fold_{fold}"
    finished = json.loads((trained / "run.json").read_text())["finished"]
    configuration = plan["configurations"][name]
    foretold = configuration["training"]["epochs"] * expected["epoch_seconds"]
    ledger.add(
        f"ours {minutes} min fold {fold}",
        done,
        foretold=foretold,
        training=finished["seconds"],
        steps=finished["steps"],
        patch=configuration["patch_size"],
        spacing=configuration["spacing"],
        width=configuration["features_per_stage"][0],
        dice=score(trained / "validation", workspace),
    )


def _nnunet(folder: Path, minutes: int, fold: int, ledger: Ledger) -> None:
    """Train and validate one fold of nnU-Net, unless that is done."""
    if ledger.of(f"nnU-Net {minutes} min fold {fold}"):
        return
    environment = nnunet_environment(folder)
    raw, made = folder / "raw" / DATASET, folder / "nnunet_preprocessed" / DATASET
    if not raw.exists():
        shutil.copytree(real_data() / DATASET, raw)
    if not (made / "nnUNetPlans_3d_fullres").exists():
        plan = ["nnUNetv2_plan_and_preprocess", "-d", "21", "-gpu_memory_target", "1", "-c", "3d_fullres", "-np", "2"]
        measure([str(nnunet_bin() / plan[0]), *plan[1:]], environment=environment, log=folder / "nnunet_plan.log")
    shutil.copyfile(_workspace(folder) / "preprocessed" / DATASET / "splits.json", made / "splits_final.json")
    print(f"nnU-Net, {minutes} min, fold {fold} ...", file=sys.stderr)
    script = [str(nnunet_bin() / "python"), str(ROOT / "benchmarks" / "nnunet_budget.py")]
    command = [*script, "21", "3d_fullres", str(fold), str(60 * minutes)]
    done = measure(command, environment=environment, log=folder / f"nnunet_train_{fold}.log")
    trained = folder / "nnunet_results" / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / f"fold_{fold}"
    steps = trained / "steps.txt"
    ledger.add(
        f"nnU-Net {minutes} min fold {fold}",
        done,
        steps=int(steps.read_text()) if steps.exists() else None,
        dice=score(trained / "validation", _workspace(folder)),
    )


_CONTENDERS = {"ours": _ours, "nnunet": _nnunet}


def score(masks: Path, workspace: Path) -> dict[str, float]:
    """Dice of the masks in a folder, by our own scoring."""
    command = [str(BIN / "bts_evaluate"), "-d", "21", "--workspace", str(workspace), "--json", "-p", str(masks)]
    scores = masks.parent / f"scores_of_{masks.name}"
    answer = subprocess.run([*command, "-o", str(scores)], check=True, capture_output=True, text=True).stdout
    return {region: json.loads(answer)["mean"][region]["dice"] for region in REGIONS}


def _lines(ledger: Ledger, minutes: int, folds: list[int]) -> Iterator[str]:
    """One line for each training, and the means."""
    rows = {row["name"]: row for row in ledger.rows}
    for contender in ("ours", "nnU-Net"):
        found = [rows[name] for fold in folds if (name := f"{contender} {minutes} min fold {fold}") in rows]
        for row in found:
            dice = "  ".join(f"{region} {row['dice'][region]:.3f}" for region in REGIONS)
            took = f"{row['seconds']:6.0f} s, {row['steps']} steps"
            told = f", training {row['training']:.0f} s, foretold {row['foretold']:.0f} s" if "foretold" in row else ""
            yield f"{row['name']:24} {dice}  {took}{told}"
        if len(found) > 1:
            means = {region: sum(row["dice"][region] for row in found) / len(found) for region in REGIONS}
            yield f"{contender + ', mean':24} " + "  ".join(f"{region} {means[region]:.3f}" for region in REGIONS)


def main() -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", nargs="+", type=int, default=[30], metavar="MINUTES")
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1], metavar="FOLD")
    parser.add_argument("--only", choices=tuple(_CONTENDERS), help="nnunet: after ours, whose folds it takes")
    arguments = parser.parse_args()
    for minutes in arguments.budgets:
        # A folder of its own for each budget: the plan, and with it the prepared cases, are others.
        folder = cache() / "budget" / f"{minutes}min"
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / "runs.json")
        for fold in arguments.folds:
            for name, train in _CONTENDERS.items():
                if arguments.only in (None, name):
                    train(folder, minutes, fold, ledger)
        print("\n".join(_lines(ledger, minutes, arguments.folds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
