"""The default plan and three published pipelines on every fold of real MRI, what is chosen, and how good it is.

    python benchmarks/ensembling.py                  # goes on where it was stopped
    python benchmarks/ensembling.py --minutes 4      # longer trainings, in a workspace of their own

Real MRI (Dataset021_BraTS2013, four patients, four folds). The plan is made for trainings of so many minutes on this
machine; every member of every recipe trains that long on each fold. Then, as a user would type it, `bts_ensemble`
without arguments chooses and `bts_predict -i in -o out` obeys. The table, in Markdown, is the one of
`docs/ensembling.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from main_job import DATASET
from measure import Ledger, measure
from peer import cache, real_data

FOLDS = 4
# Whom the choice then segments; that it has seen the patient does not matter, since only the commands are tried.
PATIENT = "BraTS13_pat0003"
# Members of each recipe.
RECIPES = {"default": 1, "region_loss_ensemble": 2, "nnsegnet": 2, "deepseg_staple": 3}


def run(folder: Path, minutes: float) -> Ledger:
    """Train, choose and predict in `folder`, each unless it is done."""
    workspace = folder / "bts_workspace"
    if not (workspace / "raw" / DATASET).exists():
        shutil.copytree(real_data() / DATASET, workspace / "raw" / DATASET)
    each = f"{60 * minutes:.0f}s"
    plan = ["bts_plan_and_preprocess", "-d", "21", "--budget", each, "--device", "cpu"]
    commands = {"plan": plan}
    ledger = Ledger(folder / "runs.json")
    step(folder, ledger, "plan", plan)
    (configuration,) = json.loads((workspace / "preprocessed" / DATASET / "plan.json").read_text())["configurations"]
    for recipe, members in RECIPES.items():
        budget = f"{60 * minutes * members * FOLDS:.0f}s"
        train = ["bts_train", configuration, "cv", "--recipe", recipe, "--budget", budget, "--device", "cpu"]
        commands[recipe] = train
    given = folder / "in"
    given.mkdir(exist_ok=True)
    for path in (workspace / "raw" / DATASET / "imagesTr").glob(f"{PATIENT}_*"):
        shutil.copy(path, given)
    commands |= {"choose": ["bts_ensemble"], "predict": ["bts_predict", "-i", "in", "-o", "out"]}
    for name, command in commands.items():
        step(folder, ledger, name, command)
    return ledger


def step(folder: Path, ledger: Ledger, name: str, command: list[str]) -> None:
    """Run one of our commands in `folder`, unless it is done."""
    if not ledger.of(name):
        print(f"{' '.join(command)} ...", file=sys.stderr)
        program = str(Path(sys.executable).parent / command[0])
        ledger.add(name, measure([program, *command[1:]], log=folder / f"{name}.log", cwd=folder))


def table(best: dict) -> Iterator[str]:
    """Singles and pairs as a matrix of mean Dice (singles on the diagonal), what else was tried, and the choice."""
    scores = {tuple(one["members"]): one for one in best["candidates"] if one["combiner"] == "mean"}
    names = sorted((found[0] for found in scores if len(found) == 1), key=lambda one: -scores[(one,)]["mean_dice"])
    short = [name.partition("__")[0] for name in names]
    yield "| mean Dice | " + " | ".join(str(number) for number in range(1, 1 + len(names))) + " |"
    yield "|---|" + "---|" * len(names)
    for row, name in enumerate(names):
        pairs = [tuple(sorted({name, other})) for other in names[: row + 1]]
        cells = [f"{scores[pair]['mean_dice']:.3f}" if pair in scores else "" for pair in pairs]
        yield f"| {row + 1} `{short[row]}` | " + " | ".join(cells + [""] * (len(names) - len(cells))) + " |"
    yield ""
    yield "| other combinations | by | mean Dice |"
    yield "|---|---|---|"
    for one in best["candidates"]:
        if one["recipe"] or len(one["members"]) > 2:
            numbers = " + ".join(str(names.index(member) + 1) for member in one["members"])
            weights = ", ".join(f"{weight:.2f}" for weight in one["weights"] or ())
            how = f"{one['combiner']} ({weights})" if weights else one["combiner"]
            of = f"`{one['recipe']}`: " if one["recipe"] else ""
            yield f"| {of}{numbers} | {how} | {one['mean_dice']:.4f} |"
    yield ""
    yield f"Plain {best['plain_score']:.4f}, nested {best['nested_score']:.4f}, optimism {best['optimism']:.4f}."


def main() -> int:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.75, help="of one member's training on one fold")
    arguments = parser.parse_args()
    folder = cache() / "ensembling" / f"{arguments.minutes:g}min"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = run(folder, arguments.minutes)
    best = json.loads((folder / "bts_workspace" / "results" / DATASET / "best.json").read_text())
    print("\n".join(table(best)))
    for row in ledger.rows:
        print(f"{row['name']:22} {row['seconds']:8.1f} s   peak {row['peak_bytes'] / 1e6:6.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
