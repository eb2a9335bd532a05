"""Scoring: ours against MONAI with surface-distance, and against the BraTS-2023 rules with their own library calls.

    python benchmarks/evaluate.py            # 20 pairs of 240x240x155 masks; goes on where it was stopped

The peers live in an environment of their own, which is made on first use ($BTS_ORACLE_ENV names another). Both sides
score each pair in turn on one thread, from masks in memory; imports do not count. Values must agree to 1e-6 of
their size; MONAI's percentile to 1e-4, since its rank among many distances is computed in single precision.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from peer import ROOT, cache

from bts_auto.evaluate import surface
from bts_auto.evaluate.case import score_case
from bts_auto.files import read_json, write_json

SHAPE = (155, 240, 240)
REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
METRICS = {
    "MONAI + surface-distance": ("dice", "hd95_directed", "assd", "hd95", "nsd@1"),
    "BraTS 2023": ("lesion_dice@GLI", "lesion_hd95@GLI"),
}
TOLERANCE = 1e-6
LOOSE = {"hd95_directed": 1e-4}
PACKAGES = ("monai", "surface-distance", "SimpleITK", "scipy", "connected-components-3d")


def make_pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference with one to four nested lesions, and a prediction with other borders, a miss and an invention."""
    random = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in SHAPE], indexing="ij"))
    masks = np.zeros((2, *SHAPE), np.uint8)
    for lesion in range(int(random.integers(1, 5))):
        centre = random.uniform(0.3, 0.7, 3) * SHAPE
        radii = random.uniform(18, 34, 3) if lesion == 0 else random.uniform(2, 9, 3)
        for mask, shift in zip(masks, (0.0, 2.0), strict=True):
            moved = centre + random.normal(0, 1, 3) * shift
            far = np.sqrt((((grid - moved[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(axis=0))
            if shift and lesion == 1 and number % 2:
                continue
            far += 0.08 * np.sin(grid[0] / 3 + shift) * np.sin(grid[1] / 4) * np.sin(grid[2] / 5 - shift)
            for value, limit in ((2, 1.0), (3, 0.7), (1, 0.45)):
                mask[far < limit] = value
    masks[1][tuple(slice(n // 5, n // 5 + 3) for n in SHAPE)] = 3
    return masks[1], masks[0]


def oracle_python() -> Path:
    """The Python of the peers' environment, made on first use."""
    given = os.environ.get("BTS_ORACLE_ENV")
    environment = Path(given) if given else cache() / "oracle"
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PACKAGES)} into {environment} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        torch = next(line for line in lines if line.startswith("torch=="))
        subprocess.run([python, "-m", "pip", "install", "--quiet", torch, *PACKAGES], check=True)
    return python


class Peer:
    """The peers' process: takes the path of a pair, answers with values and seconds."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("evaluate_peer.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([oracle_python(), script], **pipes)

    def score(self, path: Path) -> dict[str, dict]:
        """For each peer ``{"seconds": ..., "scores": {region: {metric: value}}}``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the peers' process has died")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def score_ours(prediction: np.ndarray, reference: np.ndarray) -> dict[str, dict]:
    """The same scores by ours."""
    found = {}
    for peer, metrics in METRICS.items():
        started = time.perf_counter()
        scores = score_case(prediction, reference, (1.0, 1.0, 1.0), REGIONS, metrics, empty="brats2023")
        found[peer] = {"seconds": time.perf_counter() - started, "scores": scores}
    return found


def largest_difference(ours: dict, theirs: dict) -> float:
    """Over all regions and metrics, as a share of the value where that is above 1, and of what is allowed."""
    return max(
        abs(ours[region][metric] - other) / max(1.0, abs(other)) / LOOSE.get(metric, TOLERANCE)
        for region in ours
        for metric, other in theirs[region].items()
    )


def measure(pairs: int, record: Path) -> dict[str, list[dict[str, float]]]:
    """Score what the record lacks; it is written after every pair."""
    rows = read_json(record) if record.exists() else {peer: [] for peer in METRICS}
    surface._THREADS = 1  # one thread on both sides
    peer = None
    for number in range(len(rows[next(iter(METRICS))]), pairs):
        prediction, reference = make_pair(number)
        path = record.parent / "pair.npz"
        np.savez(path, prediction=prediction, reference=reference)
        peer = peer or Peer()
        theirs, ours = peer.score(path), score_ours(prediction, reference)
        for name in METRICS:
            difference = largest_difference(ours[name]["scores"], theirs[name]["scores"])
            rows[name].append(
                {"ours": ours[name]["seconds"], "theirs": theirs[name]["seconds"], "difference": difference}
            )
        write_json(record, rows)
        print(f"pair {number + 1} of {pairs}", file=sys.stderr)
    if peer is not None:
        peer.close()
    return {name: rows[name][:pairs] for name in METRICS}


def main() -> int:
    """Measure, then print seconds per pair and ratios; status 1 when values differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--restart", action="store_true", help="forget earlier measurements")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    record = cache() / "evaluate" / "rows.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    if arguments.restart:
        record.unlink(missing_ok=True)
    result = {}
    for name, rows in measure(arguments.pairs, record).items():
        ours, theirs = (sum(row[side] for row in rows) / len(rows) for side in ("ours", "theirs"))
        difference = max(row["difference"] for row in rows)
        result[name] = {"ours_s": ours, "theirs_s": theirs, "ratio": theirs / ours, "largest_difference": difference}
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, one in result.items():
            print(
                f"{name:26} theirs {one['theirs_s']:7.2f} s  ours {one['ours_s']:6.2f} s  ratio {one['ratio']:5.1f}  "
                f"largest difference {one['largest_difference']:.2f} of what is allowed"
            )
    return int(any(one["largest_difference"] > 1 for one in result.values()))


if __name__ == "__main__":
    sys.exit(main())
