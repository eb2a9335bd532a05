"""Training as good as nnU-Net's: both train fold 0 of a dataset with the same plan for as many steps, seed by seed.

    python benchmarks/parity.py                      # goes on where it was stopped
    python benchmarks/parity.py --seeds 0 1 2 --only ours
    python benchmarks/parity.py --report             # only the table of the runs that are recorded

Real MRI (Dataset021_BraTS2013), nnU-Net's own plan for 1 GB (patch 64^3, batch 2), 400 steps; each mask of the patient
that no network has seen is scored by the same code. Every finished run is a file in `benchmarks/results/parity/`, and
`docs/parity.md` is written from those files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from main_job import DATASET, REGIONS
from measure import measure
from peer import ROOT, cache, nnunet_bin, nnunet_environment, real_data
from scipy import stats

EPOCHS, ITERATIONS = "16", "25"
RESULTS = ROOT / "benchmarks" / "results" / "parity"
PAGE = ROOT / "docs" / "parity.md"
CONTENDERS = ("ours", "nnunet")
TITLES = {"ours": "bts_auto", "nnunet": "nnU-Net 2.8.1"}
ALLOWED = {"WT": 0.02, "TC": 0.04, "ET": 0.04}
INTRODUCTION = f"""# Parity of training with nnU-Net

Both train fold 0 of Dataset021_BraTS2013 (three patients; {{held_out}} is held out) with nnU-Net's plan for 1 GB (patch
64^3, batch 2) for {int(EPOCHS) * int(ITERATIONS)} steps, with their own loops, augmentation and defaults, on a CPU.
Each mask of the held-out patient, predicted with mirroring, is scored by `bts_evaluate`. Made by `python
benchmarks/parity.py`, which writes this page from the runs in `benchmarks/results/parity/`.
"""
_TAIL = 0.05  # of each side: a 90 % interval


def prepare(folder: Path) -> Path:
    """The dataset planned and preprocessed by both, with the same splits; returns our workspace."""
    workspace = folder / "bts_workspace"
    raw = workspace / "raw" / DATASET
    if not raw.exists():
        shutil.copytree(real_data() / DATASET, raw)
    ours = [str(Path(sys.executable).parent / "bts_plan_and_preprocess"), "-d", "21", "--gpu-memory", "1"]
    measure([*ours, "--workspace", str(workspace)], log=folder / "plan.log")
    made = folder / "nnunet_preprocessed" / DATASET
    environment = nnunet_environment(folder)
    if not (folder / "raw" / DATASET).exists():
        shutil.copytree(raw, folder / "raw" / DATASET)
    if not (made / "nnUNetPlans_3d_fullres").exists():
        plan = ["nnUNetv2_plan_and_preprocess", "-d", "21", "-gpu_memory_target", "1", "-c", "3d_fullres", "-np", "2"]
        measure([str(nnunet_bin() / plan[0]), *plan[1:]], environment=environment, log=folder / "nnunet_plan.log")
    splits = (workspace / "preprocessed" / DATASET / "splits.json").read_text()
    (made / "splits_final.json").write_text(splits)
    return workspace


def train(contender: str, seed: int, folder: Path, workspace: Path) -> dict:
    """One run, continued where it stopped; returns what is recorded of it."""
    results = folder / f"{contender}_{seed}"
    results.mkdir(exist_ok=True)
    log = folder / f"{contender}_{seed}.log"
    if contender == "ours":
        command = [str(Path(sys.executable).parent / "bts_train"), "3d_fullres", "0", "--workspace", str(workspace)]
        command += ["--epochs", EPOCHS, "--iterations", ITERATIONS, "--seed", str(seed)]
        measured = measure(command, environment={"BTS_RESULTS": str(results)}, log=log)
        masks = results / DATASET / "default__3d_fullres" / "fold_0" / "validation"
    else:
        environment = nnunet_environment(folder) | {"nnUNet_results": str(results), "nnUNet_n_proc_DA": "1"}
        script = [str(nnunet_bin() / "python"), str(ROOT / "benchmarks" / "nnunet_train.py")]
        measured = measure(
            [*script, "21", "3d_fullres", "0", EPOCHS, ITERATIONS, "--seed", str(seed)],
            environment=environment,
            log=log,
        )
        masks = results / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
    held_out = json.loads((workspace / "preprocessed" / DATASET / "splits.json").read_text())[0]["val"]
    return {
        "contender": contender,
        "seed": seed,
        "held_out": held_out,
        "steps": int(EPOCHS) * int(ITERATIONS),
        "dice": dice(masks, workspace),
        "seconds_of_last_start": measured.seconds,
        "peak_bytes": measured.peak_bytes,
    }


def dice(masks: Path, workspace: Path) -> dict[str, float]:
    """Mean Dice of each region, by our scorer."""
    scored = masks.parent / f"scores_of_{masks.name}"
    command = [str(Path(sys.executable).parent / "bts_evaluate"), "-d", "21", "--workspace", str(workspace), "--json"]
    answer = subprocess.run(
        [*command, "-p", str(masks), "-o", str(scored)], check=True, capture_output=True, text=True
    ).stdout
    return {region: json.loads(answer)["mean"][region]["dice"] for region in REGIONS}


def recorded() -> dict[tuple[str, int], dict]:
    """The finished runs by contender and seed."""
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return {(row["contender"], row["seed"]): row for row in rows}


def page(rows: dict[tuple[str, int], dict]) -> str:
    """The document: every run, and for each region the paired difference with its 90 % interval."""
    lines = [
        *INTRODUCTION.format(held_out=", ".join(next(iter(rows.values()))["held_out"])).splitlines(),
        "",
        "| run | seed | " + " | ".join(f"Dice {region}" for region in REGIONS) + " |",
        "|---|---|" + "---|" * len(REGIONS),
    ]
    for (contender, seed), row in sorted(rows.items(), key=lambda item: (item[0][1], item[0][0])):
        lines.append(f"| {TITLES[contender]} | {seed} | " + " | ".join(f"{row['dice'][r]:.3f}" for r in REGIONS) + " |")
    seeds = [seed for (contender, seed) in sorted(rows) if contender == "ours" and ("nnunet", seed) in rows]
    if len(seeds) < 2:
        return "\n".join([*lines, "", "Too few paired runs for an interval."]) + "\n"
    lines += [
        "",
        f"Paired over {len(seeds)} seeds, bts_auto minus nnU-Net, with the 90 % interval of Student's t:",
        "",
        "| region | bts_auto | nnU-Net | difference | 90 % interval | allowed loss |",
        "|---|---|---|---|---|---|",
    ]
    for region in REGIONS:
        own, theirs = ([rows[c, s]["dice"][region] for s in seeds] for c in CONTENDERS)
        gaps = [a - b for a, b in zip(own, theirs, strict=True)]
        mean, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
        reach = stats.t.ppf(1 - _TAIL, len(gaps) - 1) * error
        lines.append(
            f"| {region} | {statistics.mean(own):.3f} | {statistics.mean(theirs):.3f} | {mean:+.3f} | "
            f"{mean - reach:+.3f} to {mean + reach:+.3f} | {ALLOWED[region]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=CONTENDERS)
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        folder = cache() / "parity"
        folder.mkdir(parents=True, exist_ok=True)
        workspace = prepare(folder)
        for seed in arguments.seeds:
            for contender in CONTENDERS:
                path = RESULTS / f"{contender}_{seed}.json"
                if not path.exists() and arguments.only in (None, contender):
                    print(f"{TITLES[contender]}, seed {seed} ...", file=sys.stderr)
                    path.write_text(json.dumps(train(contender, seed, folder, workspace), indent=1) + "\n")
    if rows := recorded():
        PAGE.write_text(page(rows))
        print(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
