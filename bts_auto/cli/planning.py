"""Options that the planning commands share."""

from __future__ import annotations

import argparse
from typing import Any

from bts_auto.cli import common

PRESETS = ("plain", "resenc_m", "resenc_l", "resenc_xl")


def add_planning_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides the plan."""
    group = parser.add_argument_group("planning")
    group.add_argument(
        "--gpu-memory", type=float, metavar="GB",
        help="memory of the GPU that is planned for, here or elsewhere; with --device cpu, of this machine "
        "(default: what is here)",
    )  # fmt: skip
    group.add_argument("--preset", choices=PRESETS, help="what is sized (default: the recipe's, else plain)")
    group.add_argument(
        "--planner", choices=("nnunet", "measured"),
        help="nnU-Net's rules, or sizes by the bytes and the speed of this machine, checked by real steps "
        "(default: nnunet for a GPU or a named memory, measured without)",
    )  # fmt: skip
    group.add_argument(
        "--budget", metavar="TIME", help="plan one configuration that trains and validates in this time: 30m, 2h"
    )
    group.add_argument("--device", default="auto", help="what will train: cpu, cuda, cuda:1 or auto")
    group.add_argument(
        "--measure-again", action="store_true", help="forget how fast this machine was (preprocessed/machine.json)"
    )
    group.add_argument("--recipe", metavar="NAME|FILE", help="a published method laid over the plan")


def planning_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The chosen planning options as arguments of `steps.py`."""
    return {
        "gpu_memory": arguments.gpu_memory,
        "preset": arguments.preset,
        "planner": arguments.planner,
        "budget": common.seconds(arguments.budget),
        "device": arguments.device,
        "measure_again": arguments.measure_again,
        "recipe": arguments.recipe,
    }


def add_fold_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides the folds."""
    group = parser.add_argument_group("folds (those that were drawn stay; delete splits.json for new ones)")
    group.add_argument(
        "--patient-pattern", metavar="REGEX",
        help=r"finds the patient in a case's name, whose scans then stay together: 'BraTS-GLI-(\d+)' "
        "(default: column patient_id of cases.csv, else every case is a patient)",
    )  # fmt: skip
    group.add_argument(
        "--stratify", nargs="+", metavar="COLUMN", help="columns of cases.csv of whose values every fold gets its share"
    )
    group.add_argument("--folds", type=int, metavar="N", help="how many (default: 5)")


def fold_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The chosen rules for folds, without those that were not given."""
    given = {
        "patient_pattern": arguments.patient_pattern,
        "stratify": arguments.stratify,
        "folds": arguments.folds,
    }
    return {name: value for name, value in given.items() if value is not None}


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how raw cases are read."""
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--nan-to-zero", action="store_true", help="read NaN and infinite voxels as 0 instead of refusing"
    )
    group.add_argument(
        "-np",
        "--workers",
        type=common.count,
        metavar="N",
        help="cases done at once (default: from free memory and cores)",
    )
