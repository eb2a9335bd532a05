"""`bts_evaluate`: score masks against references, and folders of masks against each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser(
        "bts_evaluate",
        "Score masks against references, per case, label and region; compare two or more folders by paired tests.",
    )
    _add_folders(parser)
    _add_scores(parser)

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        if arguments.list_metrics:
            return steps.metrics()
        return steps.evaluate(
            arguments.predictions,
            arguments.references,
            **common.place(arguments),
            labels=arguments.labels,
            regions=arguments.regions,
            metrics=arguments.metrics,
            tolerances_mm=arguments.tolerance,
            lesions=arguments.lesions,
            probabilities=arguments.probabilities,
            empty=arguments.empty,
            workers=arguments.workers,
            output=arguments.output,
            observer=observer,
        )

    return common.run(parser, argv, work)


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p", "--predictions", type=Path, nargs="+", metavar="DIR",
        help="folder of masks (default: the last that were made); several are compared with each other",
    )  # fmt: skip
    parser.add_argument(
        "-g", "--references", type=Path, metavar="DIR", help="folder of reference masks (default: the dataset's own)"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="dataset.json",
        help="what the integers mean (default: the dataset.json beside the references, else the dataset's own)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="folder for scores.json and scores.csv (default: the masks' own), and for comparison.json and .csv",
    )  # fmt: skip
    parser.add_argument("-np", "--workers", type=common.count, metavar="N", help="cases scored side by side")


def _add_scores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--regions", nargs="+", default=[], metavar="NAME[=1,2]",
        help="what to score: names of labels and regions, or regions of your own (WT=1,2,3); default: everything",
    )  # fmt: skip
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="NAME",
        help="such as dice hd95 nsd@2; all: every one; --list-metrics names them (default: a short list)",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", nargs="+", type=float, default=[], metavar="MM", help="add the surface Dice at these tolerances"
    )
    parser.add_argument(
        "--lesions", nargs="+", default=[], metavar="TASK",
        help="add lesion-wise scores by the BraTS-2023 rules of GLI, SSA, PED, MEN or MET",
    )  # fmt: skip
    parser.add_argument(
        "--probabilities", action="store_true",
        help="add average precision, AUROC, calibration error and Brier score of the probabilities saved beside masks",
    )  # fmt: skip
    parser.add_argument(
        "--empty", default="nan", metavar="RULE",
        help="scores that empty masks leave undefined: nan, brats (0, 1, 373.13 mm), brats2023 (374 mm), or "
        "both=perfect,one=worst,distance_mm=50",
    )  # fmt: skip
    parser.add_argument("--list-metrics", action="store_true", help="name every metric and stop")
