"""Does confidence keep its word on unseen patients? Ours after temperature beside averaged logits, same networks.

    python benchmarks/calibration.py                       # trains what is missing, goes on where it was stopped
    python benchmarks/calibration.py --workspace DIR       # with the folds that are trained there
    python benchmarks/calibration.py --phantom             # the same on made-up patients, in minutes

Every patient is predicted by the fold that did not train on it, twice: probabilities of the mirrored inputs averaged
(ours), and their logits averaged (the usual way). Ours is then calibrated with the temperatures that `bts_ensemble`
would fit on the other patients only, from the 8-bit probabilities that their validation left.

Calibration error depends on the voxels that are counted. Three choices are reported: `near` (within 5 mm of what
either of the two predicts or of the truth; the one that counts), `head` (voxels where any channel is not zero) and
`tumour` (what either predicts or is true, without margin). Errors are those of 15 equally wide bins over the voxels of
all patients; `mean` is the mean over patients of each one's own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from peer import cache, real_data

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.combine.temperature import best_temperature, scale
from bts_auto.data.labels import Labels
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_mask, read_volume
from bts_auto.data.splits import read_splits
from bts_auto.ensemble.evidence import Evidence, near, region_probability
from bts_auto.evaluate.probability import Reliability, reliability_of_counts
from bts_auto.model.fold import TrainedFold, find_folds
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.predict.export import export_scores
from bts_auto.predict.predictor import CasePredictor

REAL, PHANTOM = "Dataset021_BraTS2013", "Dataset091_Phantom"
LENGTH = {REAL: ("--epochs", "10", "--iterations", "25"), PHANTOM: ("--epochs", "1", "--iterations", "10")}
CONFIGURATION = "3d_fullres"
WAYS = ("ours", "logits")
VOXELS = ("near", "tumour", "head")
# Voxels are counted by their probability in so many steps.
_FINE = 10_000
# Most that the Dice of the two may differ for it to be called equal.
EQUAL_DICE = 0.01


class AveragingLogits:
    """A trained fold whose mirrored answers are averaged as logits."""

    def __init__(self, fold: TrainedFold) -> None:
        self.plan: Plan = fold.plan
        self.configuration_name = fold.configuration_name
        inference = fold.configuration.inference.model_copy(update={"averaging": "logits"})
        self.configuration: SegmentationConfiguration = fold.configuration.model_copy(update={"inference": inference})
        self.network = fold.network


def make_workspace(folder: Path, dataset: str) -> Path:
    """A workspace with every fold of the dataset trained and validated; what is there already is kept."""
    workspace = folder / "bts_workspace"
    raw = workspace / "raw" / dataset
    if not raw.exists() and dataset == PHANTOM:
        from bts_auto.data.phantom import write_phantom_dataset

        write_phantom_dataset(raw, training=4, unseen=0)
    elif not raw.exists():
        shutil.copytree(real_data() / dataset, raw)
    plan = ["bts_plan_and_preprocess", "--gpu-memory", "0.25" if dataset == PHANTOM else "1"]
    if not (workspace / "preprocessed" / dataset / "plan.json").exists():
        run(plan, workspace, dataset)
    run(["bts_train", CONFIGURATION, "cv", *LENGTH[dataset]], workspace, dataset)
    return workspace


def run(command: Sequence[str], workspace: Path, dataset: str) -> None:
    """Run one of our commands on the dataset."""
    print(" ".join(command), file=sys.stderr)
    program = Path(sys.executable).parent / command[0]
    where = ["-d", dataset, "--workspace", str(workspace)]
    subprocess.run([str(program), *command[1:], *where], check=True, stdout=subprocess.DEVNULL)


class Patient:
    """One held-out patient with the fold that did not see it."""

    def __init__(self, case: str, fold: TrainedFold, raw: RawDataset, folder: Path) -> None:
        self.case, self.fold, self.folder = case, fold, folder
        self.labels: Labels = fold.plan.label_set()
        self.regions = raw.labels.tumour_regions() or {n: raw.labels.values[n] for n in raw.labels.foreground}
        files = raw.training_cases()[case]
        assert files.mask is not None
        self.reference, self.geometry = read_mask(files.mask)
        self.volume = read_volume(files.images, fold.plan.channel_names)

    def evidence(self) -> Evidence | None:
        """What `bts_ensemble` sees of the patient: the 8-bit probabilities of validation."""
        cached = CachedProbabilities(self.fold.folder / "validation" / f"{self.case}{CACHE_ENDING}")
        whole = cached.read_box([slice(0, n) for n in cached.shape])
        return Evidence.of(whole, self.reference, self.labels, self.regions, self.geometry.spacing)

    def answer(self, way: str) -> tuple[np.ndarray, np.ndarray]:
        """Mask (z, y, x) and the probability of each region, float32 (k, z, y, x); kept for the next time."""
        path = self.folder / f"{self.case}_{way}_{self.fold.content_hash[:12]}.npz"
        if not path.exists():
            print(f"{self.case}: {way} ...", file=sys.stderr)
            fold = self.fold if way == "ours" else AveragingLogits(self.fold)
            predictor = CasePredictor([fold])
            made = predictor.predict(self.volume, keep_scores=True)
            scores, steps = made.kept()
            resampling = predictor.configuration.resampling
            stream = export_scores(scores, steps, self.labels, resampling, logits=predictor.averages_logits)
            outputs = np.stack([array for _, array in stream])
            found = [region_probability(outputs, self.labels, values) for values in self.regions.values()]
            # As they were computed: half precision would round 0.9999 to 1 and take from both sides what differs.
            np.savez_compressed(path, mask=made.mask, probabilities=np.stack(found).astype(np.float32))
        with np.load(path, allow_pickle=False) as kept:
            return kept["mask"], kept["probabilities"]

    def zones(self, masks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The voxels that are counted, by each of `VOXELS`."""
        tumour = (self.reference != 0) | np.any([mask != 0 for mask in masks], axis=0)
        head = (self.volume.array != 0).any(axis=0)
        return {"near": near(tumour, self.geometry.spacing), "tumour": tumour, "head": head}


def patients(workspace: Path, dataset: str, folder: Path, configuration: str) -> Iterator[Patient]:
    """Every patient that a trained fold held out and validated."""
    raw = RawDataset.open(workspace / "raw" / dataset)
    splits = read_splits(raw.folder, workspace / "preprocessed" / dataset, raw.training_cases())
    for fold in find_folds(workspace / "results" / dataset, "default", configuration):
        held_out = splits[fold.fold].validation if splits and isinstance(fold.fold, int) else ()
        for case in held_out:
            cached = fold.folder / "validation" / f"{case}{CACHE_ENDING}"
            if cached.exists():
                yield Patient(case, fold, raw, folder)
            else:
                print(f"{case} is left out: {cached} is missing (bts_train {configuration} cv --val)", file=sys.stderr)


def dice(mask: np.ndarray, reference: np.ndarray, values: Sequence[int]) -> float:
    """Dice of a region; 1 where both are empty."""
    a, b = np.isin(mask, values), np.isin(reference, values)
    total = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def count(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in steps, and the voxels of each outside and inside the region."""
    steps = np.rint(probability * _FINE).astype(np.int64)
    sides = [np.bincount(steps[truth == side], minlength=_FINE + 1) for side in (False, True)]
    return np.arange(_FINE + 1) / _FINE, np.stack(sides)


def measure(found: list[Patient]) -> dict:
    """Everything that is reported."""
    evidence = {one.case: one.evidence() for one in found}
    regions = list(found[0].regions)
    tables: dict = {way: {v: {r: [] for r in regions} for v in VOXELS} for way in (*WAYS, "ours, uncalibrated")}
    scores: dict = {way: {region: [] for region in regions} for way in WAYS}
    temperatures: dict = {region: {} for region in regions}
    for one in found:
        answers = {way: one.answer(way) for way in WAYS}
        zones = one.zones([mask for mask, _ in answers.values()])
        for channel, (region, values) in enumerate(one.regions.items()):
            others = [e for case, e in evidence.items() if case != one.case and e is not None]
            temperature = best_temperature([other.region_likelihoods[region] for other in others])
            temperatures[region][one.case] = round(temperature, 3)
            said = {way: probabilities[channel] for way, (_, probabilities) in answers.items()}
            said["ours, uncalibrated"] = said["ours"]
            said["ours"] = scale(said["ours"], temperature)
            truth = np.isin(one.reference, values)
            for way, probability in said.items():
                for voxels, zone in zones.items():
                    tables[way][voxels][region].append(count(probability[zone], truth[zone]))
            for way, (mask, _) in answers.items():
                scores[way][region].append(dice(mask, one.reference, values))
    errors = {
        way: {v: {r: error(counted) for r, counted in by_region.items()} for v, by_region in by_voxels.items()}
        for way, by_voxels in tables.items()
    }
    means = {way: {region: float(np.mean(values)) for region, values in one.items()} for way, one in scores.items()}
    return {"patients": [one.case for one in found], "temperatures": temperatures, "dice": means, "errors": errors}


def error(counted: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Expected calibration error over all patients' voxels, and the mean of the patients' own."""
    whole: Reliability = reliability_of_counts(counted)
    return {"pooled": whole.error, "mean": float(np.mean([reliability_of_counts([one]).error for one in counted]))}


def show(result: dict) -> None:
    """Print the tables."""
    regions = list(result["temperatures"])
    print(f"{len(result['patients'])} patients, each predicted by the fold that did not train on it")
    for region in regions:
        values = result["temperatures"][region].values()
        print(f"temperature of {region}, fitted on the others: {min(values):.2f} to {max(values):.2f}")
    print(f"\n{'Dice':34}" + "".join(f"{region:>10}" for region in regions))
    for way, scores in result["dice"].items():
        print(f"{way:34}" + "".join(f"{scores[region]:10.4f}" for region in regions))
    for kind in ("pooled", "mean"):
        print(f"\n{'calibration error, ' + kind:34}" + "".join(f"{region:>10}" for region in (*regions, "all")))
        for voxels in VOXELS:
            for way, errors in result["errors"].items():
                values = [errors[voxels][region][kind] for region in regions]
                print(f"{voxels + ', ' + way:34}" + "".join(f"{v:10.4f}" for v in (*values, float(np.mean(values)))))
    print(f"\nours / averaged logits, {VOXELS[0]}, pooled: {result['ratio']:.2f}; largest difference of Dice "
          f"{result['dice_difference']:.4f}")  # fmt: skip


def main() -> int:
    """Train what is missing, measure, print; status 1 when ours is above half, or masks are not equally good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="with trained folds of the dataset")
    parser.add_argument("--configuration", default=CONFIGURATION, metavar="NAME", help="of these folds")
    parser.add_argument("--dataset", help=f"default: {REAL}")
    parser.add_argument("--phantom", action="store_true", help="made-up patients and a short training")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    dataset = arguments.dataset or (PHANTOM if arguments.phantom else REAL)
    folder = cache() / "calibration" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    workspace = arguments.workspace or make_workspace(folder, dataset)
    found = list(patients(workspace, dataset, folder, arguments.configuration))
    if len(found) < 2:
        raise SystemExit(f"{workspace}: {len(found)} validated patients, 2 are needed")
    result = measure(found)
    regions = list(result["temperatures"])
    near_errors = {way: np.mean([result["errors"][way]["near"][r]["pooled"] for r in regions]) for way in WAYS}
    result["ratio"] = float(near_errors["ours"] / near_errors["logits"])
    result["dice_difference"] = max(abs(result["dice"]["ours"][r] - result["dice"]["logits"][r]) for r in regions)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)
    return int(result["ratio"] > 0.5 or result["dice_difference"] > EQUAL_DICE)


if __name__ == "__main__":
    sys.exit(main())
