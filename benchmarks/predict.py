"""Prediction with the weights of a trained nnU-Net, by nnU-Net and by us, on real patients: time, memory, agreement.

    python benchmarks/predict.py                     # goes on where it was stopped
    python benchmarks/predict.py --only plain        # without mirroring
    python benchmarks/predict.py --unseen FOLD       # also: what bf16, int8 and --fast cost on the cases that FOLD
                                                     # (a validated fold of ours) held out

The mirrored part goes case by case, each a process of its own on both sides, as it takes nnU-Net minutes a case.

The model of `nnunet_model` (64^3 patch, 16 M parameters) is imported; nnU-Net 2.8.1 (environment of its own, same
device) and `bts_predict` segment the four cases of Dataset021_BraTS2013 in turn, each as one process, measured from
outside: wall time, and peak memory (PSS) of its process tree. Beside that: the agreement of the masks, Dice against the
expert, what the work around the network takes, and which share of the machine's measured peak the convolutions reach.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from measure import Ledger, measure
from peer import cache, fresh, nnunet_bin, real_data

MODEL = "nnunet_model/nnUNetTrainer__nnUNetPlans_1__3d_fullres"
DATASET = "Dataset021_BraTS2013"
REGIONS = {"WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,)}
# Options of bts_predict by contender; what it is compared with.
OURS = {
    "plain": {
        "ours fp32": ["--no-tta", "--precision", "fp32"],
        "ours": ["--no-tta"],
        "ours int8": ["--no-tta", "--precision", "int8"],
        "ours --fast": ["--fast"],
    },
    "mirrored": {"ours fp32 mirrored": ["--precision", "fp32"], "ours mirrored": []},
}
PEERS = {"plain": "nnU-Net", "mirrored": "nnU-Net mirrored"}


def ours(folder: Path, name: str, options: list[str], device: str, ledger: Ledger, scans: Path) -> None:
    """One run of `bts_predict` on a folder of scans."""
    package = folder / "model.bts"
    bin_folder = Path(sys.executable).parent
    if not package.exists():
        command = [str(bin_folder / "bts_import_nnunet"), str(real_data() / MODEL), "-o", str(package)]
        command += ["--images", str(images())]
        measure(command, log=folder / "import.log")
    out = folder / name.replace(" ", "_")
    command = [str(bin_folder / "bts_predict"), "-i", str(scans), "-o", str(out), "-m", str(package)]
    run(name, [*command, "--overwrite", "--device", device, *options], folder, ledger, scans)


def nnunet(folder: Path, name: str, options: list[str], device: str, ledger: Ledger, scans: Path) -> None:
    """One run of nnU-Net, with one process each for reading and for exporting: with more it is slower on two cores."""
    out = folder / name.replace(" ", "_")
    command = [str(nnunet_bin() / "nnUNetv2_predict_from_modelfolder"), "-i", str(scans), "-o", str(out)]
    command += ["-m", str(real_data() / MODEL), "-f", "all", "-device", device, "-npp", "1", "-nps", "1", *options]
    run(name, command, folder, ledger, scans)


def run(name: str, command: list[str], folder: Path, ledger: Ledger, scans: Path) -> None:
    """Measure a command and note it."""
    print(f"{name}, {scans.name} ...", file=sys.stderr, flush=True)
    environment = {name: str(folder) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    log = folder / f"{name.replace(' ', '_')}.log"
    measured = measure(command, environment={**environment, "nnUNet_compile": "f"}, log=log)
    ledger.add(name, measured, scans=scans.name)


def scan_folders(folder: Path, part: str) -> list[Path]:
    """What each process is given: all scans, or a folder for each case."""
    if part == "plain":
        return [images()]
    found = []
    for path in sorted(images().glob("*.nii.gz")):
        one = folder / "scans" / path.name.rpartition("_")[0]
        one.mkdir(parents=True, exist_ok=True)
        if not (one / path.name).exists():
            (one / path.name).symlink_to(path)
        if one not in found:
            found.append(one)
    return found


def images() -> Path:
    """The folder of scans."""
    return real_data() / DATASET / "imagesTr"


def masks(folder: Path) -> dict[str, np.ndarray]:
    """The masks of a folder by case."""
    from bts_auto.data.readers import read_mask

    return {path.name.removesuffix(".nii.gz"): read_mask(path)[0] for path in sorted(folder.glob("*.nii.gz"))}


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two binary masks."""
    return 2 * np.count_nonzero(first & second) / max(1, np.count_nonzero(first) + np.count_nonzero(second))


def agreement(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> str:
    """Share of equal voxels, and the Dice of each label, pooled over the cases."""
    a, b = (np.concatenate([masks[case].ravel() for case in sorted(wanted)]) for masks in (found, wanted))
    labels = [int(value) for value in np.unique(b) if value]
    pooled = ", ".join(f"{dice(a == v, b == v):.4f} ({np.count_nonzero(b == v)} voxels)" for v in labels)
    return f"{100 * np.mean(a == b):.4f} % of voxels, Dice of labels {labels}: {pooled}"


def region_dice(found: dict[str, np.ndarray], expert: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean Dice over cases of each region against the expert."""
    return {
        region: float(np.mean([dice(np.isin(found[case], values), np.isin(expert[case], values)) for case in found]))
        for region, values in REGIONS.items()
    }


def around(out: Path) -> tuple[float, float]:
    """Mean seconds a case of the network, and of everything else."""
    stages = [json.loads(path.read_text())["seconds"] for path in sorted(out.glob("*.prediction.json"))]
    network = statistics.mean(one["network"] for one in stages)
    return network, statistics.mean(sum(one.values()) for one in stages) - network


def peak(precision: str, size: int = 4096, repeats: int = 4) -> float:
    """FLOP/s of a large matrix product in OpenVINO, the engine that our numbers come from."""
    import openvino
    from openvino import opset13 as opset

    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    left = opset.parameter([size, size], np.float32)
    right = opset.constant(np.random.default_rng(0).random((size, size), dtype=np.float32))
    model = openvino.Model([opset.matmul(left, right, False, False)], [left])
    request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
    given = {0: np.random.default_rng(1).random((size, size), dtype=np.float32)}
    request.infer(given)
    best = min(_seconds(lambda: request.infer(given)) for _ in range(repeats))
    return 2 * size**3 / best


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def floating_point_operations(folder: Path) -> float:
    """FLOP of one tile of the imported network, counted by torch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bts_auto.model.nnunet import import_nnunet

    results = folder / "results"
    fold = import_nnunet(real_data() / MODEL, results)[0]
    patch = fold.configuration.patch_size
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        fold.network("cpu")(torch.zeros(1, len(fold.plan.channel_names), *patch))
    return float(counter.get_total_flops())


def tiles_of_cases(folder: Path) -> int:
    """Tiles of the planned size that cover all cases."""
    from bts_auto.data.incoming import find_cases
    from bts_auto.data.readers import read_volume
    from bts_auto.model.fold import find_folds
    from bts_auto.predict.window import count_tiles
    from bts_auto.preprocess.prepare import prepare

    fold = find_folds(folder / "results", "nnunet", "3d_fullres")[0]
    total = 0
    for case in find_cases(images(), len(fold.plan.channel_names), ".nii.gz")[0].values():
        prepared = prepare(read_volume(case.images, fold.plan.channel_names), fold.plan, fold.configuration)
        total += count_tiles(prepared.image.shape[1:], fold.configuration)
    return total


def report(folder: Path, ledger: Ledger, chosen: list[str], device: str) -> None:
    """Print the tables."""
    expert = masks(real_data() / DATASET / "labelsTr")
    for part in chosen:
        peer = PEERS[part]
        wanted = masks(folder / peer.replace(" ", "_"))
        peer_seconds, peer_memory, runs = total(ledger, peer)
        print(f"\n{part}: {len(wanted)} cases, median of {runs} runs")
        for name in (peer, *OURS[part]):
            found = masks(folder / name.replace(" ", "_"))
            seconds, memory, _ = total(ledger, name)
            line = f"{name:20} {seconds:7.1f} s ({peer_seconds / seconds:5.2f}x)  {memory / 1e6:6.0f} MB"
            scores = "  ".join(f"{region} {value:.4f}" for region, value in region_dice(found, expert).items())
            print(f"{line} ({memory / peer_memory:.2f})  against the expert: {scores}")
            if name != peer:
                network, rest = around(folder / name.replace(" ", "_"))
                print(f"{'':20} network {network:.2f} s a case, around it {rest:.2f} s; {agreement(found, wanted)}")
    if device == "cpu":
        share_of_peak(folder, ledger, chosen)


def total(ledger: Ledger, name: str) -> tuple[float, float, int]:
    """Seconds of all cases, largest peak of memory, and number of runs; of several runs the median."""
    rows = [row for row in ledger.rows if row["name"] == name]
    groups = [[row for row in rows if row["scans"] == scans] for scans in sorted({row["scans"] for row in rows})]
    seconds = sum(statistics.median(row["seconds"] for row in group) for group in groups)
    memory = max(statistics.median(row["peak_bytes"] for row in group) for group in groups)
    return seconds, memory, min(len(group) for group in groups)


def share_of_peak(folder: Path, ledger: Ledger, chosen: list[str]) -> None:
    """Print which share of the peak of a matrix product the networks reach."""
    per_tile = floating_point_operations(folder)
    total = per_tile * tiles_of_cases(folder)
    for part in chosen:
        for name, options in OURS[part].items():
            if "--fast" in options or "int8" in options:
                continue
            precision = "fp32" if "fp32" in options else "bf16"
            copies = 1 if part == "plain" else 8
            cases = len(list((folder / name.replace(" ", "_")).glob("*.prediction.json")))
            reached = total * copies / (around(folder / name.replace(" ", "_"))[0] * cases)
            most = peak(precision)
            print(
                f"{name}: {reached / 1e9:.0f} GFLOP/s = {100 * reached / most:.0f} % of a matrix product's "
                f"{most / 1e9:.0f} GFLOP/s in {precision}"
            )


def unseen(folder: Path, fold: Path, device: str) -> None:
    """Print what precision and `--fast` cost a fold of ours on the cases that it held out."""
    scans, out = fresh(folder / "unseen" / "scans"), folder / "unseen"
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (fold / "validation").glob("*.nii.gz"))
    for path in images().glob("*.nii.gz"):
        if path.name.rpartition("_")[0] in cases:
            (scans / path.name).symlink_to(path)
    expert = {case: mask for case, mask in masks(real_data() / DATASET / "labelsTr").items() if case in cases}
    exact: dict[str, dict[str, np.ndarray]] = {}
    print(f"\n{', '.join(cases)}, which the fold has not seen:")
    how = {"plain": ["--no-tta"], "mirrored": []}
    contenders = {f"{name} {p}": [*o, "--precision", p] for name, o in how.items() for p in ("fp32", "bf16", "int8")}
    for name, options in {**contenders, "--fast": ["--fast"]}.items():
        made = fresh(out / name.replace(" ", "_"))
        command = [str(Path(sys.executable).parent / "bts_predict"), "-i", str(scans), "-o", str(made), "-m", str(fold)]
        measured = measure([*command, "--device", device, *options], log=out / "log.txt")
        found = masks(made)
        scores = "  ".join(f"{region} {value:.4f}" for region, value in region_dice(found, expert).items())
        line = f"{name:15} {measured.seconds:6.1f} s  against the expert: {scores}"
        kind = name.split()[0]
        if name.endswith("fp32"):
            exact[kind] = found
        elif kind in exact:
            same = region_dice(found, exact[kind])
            line += "  with fp32: " + "  ".join(f"{region} {value:.4f}" for region, value in same.items())
        print(line)


def main() -> int:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="of each contender")
    parser.add_argument("--only", choices=tuple(OURS), nargs="+", default=list(OURS))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME", help="forget these contenders' runs")
    parser.add_argument("--unseen", type=Path, metavar="FOLD", help="a trained fold folder of ours")
    arguments = parser.parse_args()
    folder = cache() / f"predict_{arguments.device}"
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "runs.json")
    ledger.rows = [row for row in ledger.rows if row["name"] not in arguments.again]
    for part in arguments.only:
        peer = {PEERS[part]: ["--disable_tta"] if part == "plain" else []}
        for number in range(arguments.runs):
            for scans in scan_folders(folder, part):
                for name, options in {**peer, **OURS[part]}.items():
                    done = [row for row in ledger.rows if (row["name"], row["scans"]) == (name, scans.name)]
                    if len(done) <= number:
                        program = nnunet if name in peer else ours
                        program(folder, name, options, arguments.device, ledger, scans)
    report(folder, ledger, arguments.only, arguments.device)
    if arguments.unseen is not None:
        unseen(folder, arguments.unseen, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
