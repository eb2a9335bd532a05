"""Export of many-class predictions: seconds and memory of making the label map in the scan's grid.

Run one case with ``python benchmarks/export.py 25`` or ``python benchmarks/export.py 105``; without an argument both
run, each in a fresh process. Peak memory is that of the process above what it held with the scores in memory.

The scores are softmax probabilities of smooth blobs; ``--noise`` takes uncorrelated noise instead, in which every voxel
lies on a boundary of all classes: the worst case.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CASES = {
    25: {"shape": (128, 160, 160), "full": (200, 320, 320), "type": "float32", "seconds": 3.0, "gb": 0.5},
    105: {"shape": (171, 171, 200), "full": (512, 512, 600), "type": "float16", "seconds": None, "gb": 8.0},
}


def make_scores(classes: int, shape: tuple[int, int, int], kind: str, noise: bool) -> np.ndarray:
    """Probabilities (classes, z, y, x) in which each class owns some blobs, or noise."""
    random = np.random.default_rng(0)
    scores = np.empty((classes, *shape), kind)
    total = np.zeros(shape, np.float32)
    for channel in scores:
        if noise:
            logits = random.random(shape, dtype=np.float32)
        else:
            coarse = random.standard_normal([-(-n // 12) for n in shape], dtype=np.float32)
            logits = coarse
            for axis, size in enumerate(shape):
                at = np.linspace(0, coarse.shape[axis] - 1, size)
                low = np.minimum(at.astype(int), coarse.shape[axis] - 2)
                share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
                logits = np.take(logits, low, axis) * (1 - share) + np.take(logits, low + 1, axis) * share
            logits *= 6
        exponentials = np.exp(logits)
        channel[...] = exponentials if kind == "float32" else np.minimum(exponentials, 6e4)
        total += exponentials
    for channel in scores:
        channel /= total
    return scores


def peak_gb() -> float:
    """The process's largest resident size so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def resident_gb() -> float:
    """The process's resident size now, in GB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024**3


def run(classes: int, noise: bool, logits: bool) -> dict[str, object]:
    """Export one case and say what it took."""
    from bts_auto.data.labels import Labels
    from bts_auto.data.volume import Geometry
    from bts_auto.plan.schema import Resampling
    from bts_auto.predict.export import export_labels
    from bts_auto.preprocess.spatial import Crop, Resample, SpatialSteps

    case = CASES[classes]
    shape, full = case["shape"], case["full"]
    scores = make_scores(classes, shape, case["type"], noise)
    labels = Labels({"background": (0,)} | {f"label {n}": (n,) for n in range(1, classes)})
    spacing = tuple(a / b for a, b in zip(shape, full, strict=True))
    steps = SpatialSteps(
        Geometry(full, spacing), (Crop((0, 0, 0), full, full), Resample(full, shape, spacing, (1.0, 1.0, 1.0)))
    )
    before_peak, before = peak_gb(), resident_gb()
    start, processor = time.perf_counter(), time.process_time()
    mask = export_labels(scores, steps, labels, Resampling(), logits=logits)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {
        "classes": classes,
        "scores": "noise" if noise else "blobs",
        "from": list(shape),
        "to": list(full),
        "labels found": len(np.unique(mask)),
        "seconds": round(seconds, 2),
        "processor seconds": round(processor, 2),
        "target seconds": case["seconds"],
        "inputs GB": round(scores.nbytes / 1024**3, 2),
        "GB above the inputs": round(max(0.0, peak_gb() - before), 3) if peak_gb() > before_peak else 0.0,
        "peak GB": round(peak_gb(), 2),
        "target GB": case["gb"],
    }


def main() -> None:
    """Run one case here or all in processes of their own; one line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", nargs="?", type=int, choices=CASES, help="default: all")
    parser.add_argument("--noise", action="store_true", help="the worst case: every voxel on a boundary")
    parser.add_argument("--logits", action="store_true", help="take the scores for logits")
    arguments = parser.parse_args()
    if arguments.classes is not None:
        print(json.dumps(run(arguments.classes, arguments.noise, arguments.logits)))
        return
    for classes in CASES:
        options = [f"--{name}" for name in ("noise", "logits") if getattr(arguments, name)]
        subprocess.run([sys.executable, __file__, str(classes), *options], check=True)


if __name__ == "__main__":
    main()
