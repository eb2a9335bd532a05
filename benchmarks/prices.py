"""What a budget had better be spent on: plans of several spacings, patches and widths, trained for the same time.

    python benchmarks/prices.py                                  # goes on where it was stopped
    python benchmarks/prices.py --minutes 15 --folds 0 --plans 2:48:16 1.5:64:16 1:80:16

A plan is spacing in units of the target's (FACTOR), edge of the patch in voxels, channels of the first stage. Each is
planned, trained and validated by the same code as `--budget`, which is only told what to choose. Real MRI
(Dataset021_BraTS2013); the table says what `plan/budget.py` expects beside what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

from budget import BIN, DATASET, REGIONS, score
from measure import Ledger, measure
from peer import cache, real_data

from bts_auto.plan import budget as rule


def plan_this(workspace: Path, minutes: float, wanted: tuple[float, int, int]) -> None:
    """Plan and preprocess the one configuration that is wanted."""
    from bts_auto.cli.plan_and_preprocess import main

    factor, edge, width = wanted
    choose = rule.choose

    def fits(one: rule.Candidate) -> bool:
        spacing, topology = one.grid.spacing, one.sized.topology
        alike = math.isclose(min(spacing), factor, rel_tol=0.01) and one.sized.features[0] == width
        return alike and math.isclose(math.prod(topology.patch_size), edge**3, rel_tol=0.3)

    rule.choose = lambda found, budget: choose((one for one in found if fits(one)), budget)
    try:
        common = ["-d", "21", "--workspace", str(workspace), "--device", "cpu"]
        if main([*common, "--budget", f"{minutes}m"]) != 0:
            raise SystemExit(f"no such plan: {wanted}")
    finally:
        rule.choose = choose


def train(folder: Path, minutes: float, wanted: tuple[float, int, int], fold: int, ledger: Ledger) -> None:
    """Train one fold of one plan, unless that is done."""
    title = "{:g} mm, {}^3, {} channels".format(*wanted) + f", {minutes:g} min, fold {fold}"
    if ledger.of(title):
        return
    workspace = folder / "{:g}_{}_{}_{:g}min".format(*wanted, minutes)
    if not (workspace / "raw" / DATASET).exists():
        shutil.copytree(real_data() / DATASET, workspace / "raw" / DATASET)
    if not (workspace / "preprocessed" / DATASET / "plan.json").exists():
        command = [sys.executable, __file__, "--plan", *map(str, wanted), "--minutes", str(minutes), str(workspace)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    plan = json.loads((workspace / "preprocessed" / DATASET / "plan.json").read_text())
    ((name, expected),) = plan["expected"].items()
    training = plan["configurations"][name]["training"]
    common = ["-d", "21", "--workspace", str(workspace), "--device", "cpu", "--budget", f"{minutes}m"]
    print(f"{title} ...", file=sys.stderr)
    done = measure([str(BIN / "bts_train"), name, str(fold), *common], log=workspace / f"train_{fold}.log")
    trained = workspace / "results" / DATASET / f"default__{name}" / f"fold_{fold}"
    finished = json.loads((trained / "run.json").read_text())["finished"]
    factor, edge, width = wanted
    median = plan["configurations"][name]["median_image_size_in_voxels"]
    ledger.add(
        title,
        done,
        steps=finished["steps"],
        training=finished["seconds"],
        foretold=training["epochs"] * expected["epoch_seconds"],
        price=rule.price_of(factor, width, min(1.0, edge**3 / math.prod(median)), finished["steps"]),
        dice=score(trained / "validation", workspace),
    )


def main() -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--folds", nargs="+", type=int, default=[0], metavar="FOLD")
    parser.add_argument("--plans", nargs="+", default=["2:48:16", "1.5:64:16", "1:80:16"], metavar="FACTOR:EDGE:WIDTH")
    parser.add_argument("--plan", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("workspace", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        plan_this(arguments.workspace, arguments.minutes, _wanted(arguments.plan))
        return 0
    folder = cache() / "prices"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "runs.json")
    for fold in arguments.folds:
        for plan in arguments.plans:
            train(folder, arguments.minutes, _wanted(plan.split(":")), fold, ledger)
    for row in ledger.rows:
        dice = "  ".join(f"{region} {row['dice'][region]:.3f}" for region in REGIONS)
        mean = sum(row["dice"][region] for region in REGIONS) / len(REGIONS)
        print(
            f"{row['name']:42} {dice}  mean {mean:.3f}  expected loss {row['price']:+.3f}  {row['steps']} steps, "
            f"training {row['training']:.0f} s, foretold {row['foretold']:.0f} s, in all {row['seconds']:.0f} s"
        )
    return 0


def _wanted(words: list[str]) -> tuple[float, int, int]:
    factor, edge, width = words
    return float(factor), int(edge), int(width)


if __name__ == "__main__":
    sys.exit(main())
