"""Predicted against measured peak memory of training steps, over 12 plans.

    python benchmarks/memory.py                  # on the CPU; goes on where it was stopped, unless plans changed
    python benchmarks/memory.py --device cuda

Plain and residual networks in 2d and 3d, sized by bytes for 1, 4 and 12 GB of a 140 x 160 x 145 dataset with two
channels and four classes. Each plan takes real steps in a process of its own, on the CPU in single precision: measured
is the peak of that process's resident set above what it held before the network was built, on a GPU what torch had
allocated at most. The process returns what it frees; a training on a CPU keeps it (`machine.keep_freed_memory`), is
faster for it and holds more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

from peer import cache

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.plan.measured import Limits, measured_sizer
from bts_auto.plan.memory_model import RUNTIME_ON_CPU, Format, plan_memory
from bts_auto.plan.planner import make_plan
from bts_auto.plan.presets import PRESETS
from bts_auto.plan.schema import Plan
from bts_auto.plan.settings import apply_settings
from bts_auto.steps.trials import OutOfMemory, Trials

SHAPE, CASES = (140, 160, 145), 200
LABELS = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}
CHANNELS = ("FLAIR", "T1c")
SIZES_GB = (1, 4, 12)
_GB = 2**30


def made(preset: str, memory_gb: float, precision: Format) -> Plan:
    """The plan of a made-up dataset, sized by bytes."""
    intensity = {
        "max": 1.0, "mean": 0.5, "median": 0.5, "min": 0.0, "percentile_00_5": 0.0, "percentile_99_5": 1.0, "std": 0.1,
    }  # fmt: skip
    fingerprint = Fingerprint.model_validate(
        {
            "spacings": [[1.0, 1.0, 1.0]] * CASES,
            "shapes_after_crop": [list(SHAPE)] * CASES,
            "median_relative_size_after_cropping": 0.5,
            "foreground_intensity_properties_per_channel": {str(i): intensity for i in range(len(CHANNELS))},
        }
    )
    dataset = {"channel_names": dict(enumerate(CHANNELS)), "labels": LABELS, "numTraining": CASES}
    sizer = measured_sizer(PRESETS[preset], Limits(memory_gb, precision), len(CHANNELS), len(LABELS))
    plan = make_plan(
        fingerprint, dataset, gpu_memory_gb=memory_gb, preset=preset, dataset_name="Dataset001_Memory", sizer=sizer
    )
    return apply_settings(plan, [f"training.precision={precision}"])


def sizes(plan: Plan, name: str) -> dict:
    """What decides the memory of a step, as JSON; a measurement of other sizes is another plan's."""
    configuration = plan.configuration(name)
    return {
        "patch": list(configuration.patch_size),
        "batch": configuration.batch_size,
        "features": list(configuration.features_per_stage),
    }


def measured(plan: Plan, name: str, device: str) -> int | None:
    """The peak of real steps in bytes; None where they do not fit."""
    try:
        with Trials(device, keep_freed=False) as trials:
            return trials.run(plan, name).peak_bytes
    except OutOfMemory:
        return None


def line(key: str, row: dict, predicted: int) -> str:
    """A row of the table."""
    size = f"{key:26} patch {'x'.join(map(str, row['patch'])):12} batch {row['batch']:3}"
    foretold = f"{size}  predicted {predicted / _GB:5.2f} GB"
    if row["measured"] is None:
        return f"{foretold}  out of memory"
    return f"{foretold}  measured {row['measured'] / _GB:5.2f} GB  {predicted / row['measured'] - 1:+.0%}"


def main() -> int:
    """Run what is missing, print the table; fails when a prediction is too far off, or a plan does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--most-gb", type=float, default=max(SIZES_GB), help="leave out larger plans")
    arguments = parser.parse_args()
    tolerance = 0.2 if arguments.device == "cpu" else 0.15
    path = Path(cache() / f"memory-{arguments.device}-{arguments.precision}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(path.read_text()) if path.exists() else {}
    worst, unfit = 0.0, 0
    for memory_gb, preset, name in itertools.product(SIZES_GB, ("plain", "resenc_m"), ("2d", "3d_fullres")):
        if memory_gb > arguments.most_gb:
            continue
        key, plan = f"{name} {preset} {memory_gb} GB", made(preset, memory_gb, arguments.precision)
        now, row = sizes(plan, name), rows.get(key, {})
        # What did not fit is tried again; what was planned otherwise then is another measurement.
        if row.get("measured") is None or {size: row.get(size) for size in now} != now:
            row = rows[key] = now | {"measured": measured(plan, name, arguments.device)}
            path.write_text(json.dumps(rows, indent=1))
        predicted = plan_memory(plan, name).peak + (RUNTIME_ON_CPU if arguments.device == "cpu" else 0)
        print(line(key, row, predicted), flush=True)
        if row["measured"] is None:
            unfit += 1
        else:
            worst = max(worst, abs(predicted / row["measured"] - 1))
    print(f"worst: {worst:.0%} (at most {tolerance:.0%})")
    if unfit:
        print(f"{unfit} plans ran out of memory and tell nothing; --most-gb leaves larger ones out")
    return 0 if worst <= tolerance and not unfit else 1


if __name__ == "__main__":
    sys.exit(main())
