"""Planning and preprocessing: bts_plan_and_preprocess against nnUNetv2_plan_and_preprocess, in turn, on real MRI.

    python benchmarks/preprocess.py            # three runs each; goes on where it was stopped

Both start from the raw dataset with nothing preprocessed, plan for 1 GB and prepare the same configurations (2d,
3d_fullres, 3d_lowres). nnU-Net counts at the faster of its default worker counts and two workers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

from measure import Ledger, Measurement, measure
from peer import cache, fresh, nnunet_bin, nnunet_environment, real_data

DATASET = "Dataset021_BraTS2013"
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
NNUNET = {"nnU-Net, default workers": [], "nnU-Net, -np 2 -npfp 2": ["-np", "2", "-npfp", "2"]}
OURS = "bts_auto"


def run_nnunet(workspace: Path, extra: list[str]) -> Measurement:
    """One run of nnU-Net from nothing."""
    fresh(workspace / "nnunet_preprocessed")
    command = [
        nnunet_bin() / "nnUNetv2_plan_and_preprocess",
        "-d",
        "21",
        "-gpu_memory_target",
        "1",
        "-c",
        *CONFIGURATIONS,
    ]
    environment = nnunet_environment(workspace)
    return measure([str(c) for c in [*command, *extra]], environment=environment, log=workspace / "nnunet.log")


def run_ours(workspace: Path) -> Measurement:
    """One run of ours from nothing."""
    fresh(workspace / "preprocessed")
    command = [Path(sys.executable).parent / "bts_plan_and_preprocess", "-d", "21", "--gpu-memory", "1"]
    command += ["-c", *CONFIGURATIONS, "--workspace", workspace]
    return measure([str(c) for c in command], log=workspace / "ours.log")


def main() -> int:
    """Run what is missing, then print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender")
    parser.add_argument("--restart", action="store_true", help="forget earlier runs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    workspace = cache() / "preprocess"
    if not (workspace / "raw" / DATASET).exists():
        shutil.copytree(real_data() / DATASET, workspace / "raw" / DATASET)
    ledger = Ledger(workspace / "runs.json")
    if arguments.restart:
        ledger.rows.clear()
    contenders = {OURS: lambda: run_ours(workspace)}
    contenders |= {name: (lambda extra=extra: run_nnunet(workspace, extra)) for name, extra in NNUNET.items()}
    for number in range(arguments.runs):
        for name, run in contenders.items():
            if len(ledger.of(name)) <= number:
                print(f"run {number + 1} of {arguments.runs}: {name} ...", file=sys.stderr)
                ledger.add(name, run())
    report({name: ledger.of(name) for name in contenders}, as_json=arguments.json)
    return 0


def report(runs: dict[str, list[Measurement]], *, as_json: bool) -> None:
    """Print medians, and ratios against the faster nnU-Net."""
    median = {
        name: (statistics.median(m.seconds for m in found), statistics.median(m.peak_bytes for m in found) / 1e6)
        for name, found in runs.items()
    }
    peer = min(NNUNET, key=lambda name: median[name][0])
    ratios = {
        "peer": peer,
        "wall": median[OURS][0] / median[peer][0],
        "memory": median[OURS][1] / median[peer][1],
    }
    if as_json:
        print(
            json.dumps(
                {"median": median, "ratios": ratios, "runs": {n: [m.seconds for m in f] for n, f in runs.items()}}
            )
        )
        return
    for name, (seconds, megabytes) in median.items():
        spread = ", ".join(f"{m.seconds:.1f}" for m in runs[name])
        print(f"{name:26} {seconds:6.1f} s (runs: {spread}), peak {megabytes:6.0f} MB")
    print(f"ours against {peer}: {1 / ratios['wall']:.1f} times faster, {ratios['memory']:.2f} of the memory")


if __name__ == "__main__":
    sys.exit(main())
