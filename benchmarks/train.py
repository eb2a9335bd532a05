"""Training speed against nnU-Net v2: the same data, network, patch, batch and list of augmentations, in turn.

    python benchmarks/train.py [--rounds 3] [--steps 20]      # goes on where it was stopped
    python benchmarks/train.py --report

Real MRI (Dataset021_BraTS2013), nnU-Net's own plan for 1 GB (patch 64^3, batch 2), all settings at their defaults.
Steps per second are wall time of the loop with its loader; each run begins with as many steps that are not counted.
Samples per second of the loader are processor time on one thread, patches read from each program's own preprocessed
files. The table of labels is `benchmarks/augment.py`'s, on a made-up volume in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from main_job import DATASET
from measure import measure
from parity import prepare
from peer import ROOT, cache, fresh, nnunet_bin, nnunet_environment

from bts_auto.data.labels import Labels
from bts_auto.files import read_json, write_json
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.dataset import store_folder
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.loader import BatchLoader

CONFIGURATION = "3d_fullres"
LABELS = ("2", "26", "105")
ASKED = {"steps": 1.7, "steps on CUDA": 1.3, "loader": 2.0, "labels": 2.0}


def our_steps(folder: Path, workspace: Path, steps: int, *options: str) -> float:
    """Steps per second of the second of two epochs of `bts_train`."""
    results = fresh(folder / "ours")
    command = [str(Path(sys.executable).parent / "bts_train"), CONFIGURATION, "all", "-d", "21", "--epochs", "2"]
    command += ["--iterations", str(steps), "--workspace", str(workspace), *options]
    measure(command, environment={"BTS_RESULTS": str(results)}, log=folder / "ours.log")
    journal = next(results.rglob("journal.jsonl")).read_text().splitlines()
    last = [json.loads(line) for line in journal if '"epoch"' in line][-1]
    return steps / last["seconds"]


def their_rate(folder: Path, what: str, count: int, workers: int | None = None) -> float:
    """Steps or samples per second of nnU-Net; with its own number of augmentation processes, or `workers`."""
    script = [str(nnunet_bin() / "python"), str(ROOT / "benchmarks" / "train_peer.py"), what]
    results = fresh(folder / "nnunet_results")
    environment = {**os.environ, **nnunet_environment(folder), "nnUNet_results": str(results)}
    if workers is not None:
        environment["nnUNet_n_proc_DA"] = str(workers)
    done = subprocess.run(
        [*script, "21", CONFIGURATION, str(count)], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])["per_second"]


def our_loader(workspace: Path, count: int) -> float:
    """Samples per second of processor time of our training loader on one thread."""
    preprocessed = workspace / "preprocessed" / DATASET
    plan = Plan.load(preprocessed / "plan.json")
    configuration = plan.configuration(CONFIGURATION)
    store = CaseStore(store_folder(preprocessed, plan, CONFIGURATION))
    split = read_json(preprocessed / "splits.json")[0]
    labels = Labels.from_dataset(read_json(preprocessed / "dataset.json"))
    torch.set_num_threads(1)
    with BatchLoader(store, split["train"], configuration, labels, seed=0) as loader:
        next(loader)
        started = time.process_time()
        for _ in range(count):
            next(loader)
        return configuration.batch_size * count / (time.process_time() - started)


def flatness(folder: Path, edge: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a sample by number of labels."""
    out = folder / "augment.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "augment.py"), "--patch", str(edge), "--out", str(out)]
    subprocess.run([*script, "--labels", *LABELS], check=True, stdout=subprocess.DEVNULL)
    return {str(json.loads(key)[1]): row for key, row in read_json(out).items()}


def contenders(folder: Path, workspace: Path, steps: int) -> dict[str, object]:
    """What is measured in every round, by name."""

    def in_fp32() -> float:
        return our_steps(folder, workspace, steps, "--set", "training.precision=fp32")

    return {
        "nnU-Net, steps/s": lambda: their_rate(folder, "steps", steps),
        "nnU-Net, 1 worker, steps/s": lambda: their_rate(folder, "steps", steps, workers=1),
        "bts_auto, steps/s": lambda: our_steps(folder, workspace, steps),
        "bts_auto in fp32, steps/s": in_fp32,
        "nnU-Net, samples/s of the loader": lambda: their_rate(folder, "loader", 5 * steps, workers=0),
        "bts_auto, samples/s of the loader": lambda: our_loader(workspace, 5 * steps),
    }


def report(rows: dict[str, list[float]], labels: dict[str, dict[str, float]]) -> None:
    """Print the tables."""
    print(f"\n{'':36} {'median':>8}  runs")
    for name, values in rows.items():
        print(f"{name:36} {statistics.median(values):8.3f}  {', '.join(f'{v:.3f}' for v in values)}")

    def ratio(mine: str, theirs: str) -> float:
        return statistics.median(rows[mine]) / statistics.median(rows[theirs])

    asked = ASKED["steps on CUDA" if torch.cuda.is_available() else "steps"]
    peers = [name for name in rows if name.startswith("nnU-Net") and name.endswith("steps/s")]
    best = max(peers, key=lambda name: statistics.median(rows[name]))
    print(f"\nagainst {best}:")
    print(f"steps:          {ratio('bts_auto, steps/s', best):.2f}x (asked {asked})")
    print(f"steps in fp32:  {ratio('bts_auto in fp32, steps/s', best):.2f}x")
    samples = ratio("bts_auto, samples/s of the loader", "nnU-Net, samples/s of the loader")
    print(f"loader:         {samples:.2f}x (asked {ASKED['loader']})")
    print("\nlabels   bts_auto ms/sample   nnU-Net ms/sample   ratio")
    for count, row in labels.items():
        print(f"{count:>6} {row['ours']:20.1f} {row['nnunet']:19.1f} {row['ratio']:7.2f}")
    spread = max(row["ours"] for row in labels.values()) / min(row["ours"] for row in labels.values())
    print(f"most to least labels: {spread:.2f}x (allowed {ASKED['labels']})")


def main() -> int:
    """Measure what is missing and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--report", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    folder = cache() / "train"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "rates.json"
    rows: dict[str, list[float]] = read_json(ledger) if ledger.exists() else {}
    if not arguments.report:
        workspace = prepare(folder)
        for count in range(1, arguments.rounds + 1):
            for name, rate in contenders(folder, workspace, arguments.steps).items():
                if len(rows.setdefault(name, [])) < count:
                    rows[name].append(rate())
                    print(f"{name}: {rows[name][-1]:.3f}", file=sys.stderr)
                    write_json(ledger, rows)
    report(rows, flatness(folder, 64))
    return 0


if __name__ == "__main__":
    sys.exit(main())
