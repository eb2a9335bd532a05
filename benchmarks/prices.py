"""What a budget had better be spent on: plans of several spacings, patches and widths, trained for the same time.

    python benchmarks/prices.py                                  # goes on where it was stopped
    python benchmarks/prices.py --minutes 15 --folds 0 --plans 2:48:16 1.5:64:16 1:80:16

A plan is named by its spacing in mm, edge of the patch in voxels (the largest of about that volume) and channels of the
first stage. Each is planned, trained and validated by the same code as `--budget`, which is only told what to
choose. Real MRI (Dataset021_BraTS2013); the table says what `plan/budget.py` expects beside what came out.
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

    spacing, edge, width = wanted
    choose = rule.choose

    def fits(one: rule.Candidate) -> bool:
        alike = math.isclose(min(one.grid.spacing), spacing, rel_tol=0.01) and one.width == width
        return alike and math.isclose(math.prod(one.sized.topology.patch_size), edge**3, rel_tol=0.3)

    def choose_wanted(found: list[rule.Candidate], budget: float) -> rule.Candidate:
        fitting = [one for one in found if fits(one)]
        if not fitting:
            raise SystemExit(f"{spacing:g}:{edge}:{width} is none of the plans that are looked at")
        return choose(fitting, budget)

    rule.choose = choose_wanted
    try:
        common = ["-d", "21", "--workspace", str(workspace), "--device", "cpu"]
        if main([*common, "--budget", f"{minutes}m"]) != 0:
            raise SystemExit(1)
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
    sizes = plan["configurations"][name]
    shown = [min(p, n) / n for p, n in zip(sizes["patch_size"], sizes["median_image_size_in_voxels"], strict=True)]
    ledger.add(
        title,
        done,
        steps=finished["steps"],
        training=finished["seconds"],
        foretold=training["epochs"] * expected["epoch_seconds"],
        # The target spacing of this dataset is 1 mm.
        price=rule.price_of(min(sizes["spacing"]), wanted[2], math.prod(shown), finished["steps"]),
        dice=score(trained / "validation", workspace),
    )


def main() -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--folds", nargs="+", type=int, default=[0], metavar="FOLD")
    parser.add_argument("--plans", nargs="+", default=["2:48:16", "1.5:64:16", "1:80:16"], metavar="MM:EDGE:CHANNELS")
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
    spacing, edge, width = words
    return float(spacing), int(edge), int(width)


if __name__ == "__main__":
    sys.exit(main())
