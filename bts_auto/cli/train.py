"""`bts_train`: train one fold of a configuration, then validate it on whole volumes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.cli import common

if TYPE_CHECKING:
    from bts_auto.events import Observer
    from bts_auto.steps import Outcome
    from bts_auto.train.launch import Launch

# As many epochs as nnU-Net v1 waited for a better loss.
_PLATEAU_EPOCHS = 50


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    from bts_auto.train.launch import launched, leave

    parser, launch = _parser(), launched()
    if launch is not None and launch.rank > 0:
        status = _train_along(parser, argv, launch)
    else:
        status = common.run(parser, argv, _work)
    leave(status)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = common.parser("bts_train", "Train a configuration on a fold, then validate on the held-out cases.")
    parser.add_argument(
        "configuration", metavar="CONFIG",
        help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres (which trains the 3d_lowres folds that it needs first)",
    )  # fmt: skip
    parser.add_argument("fold", metavar="FOLD", help="a number, 'all' (every case trains) or 'cv' (every fold in turn)")
    parser.add_argument("--recipe", metavar="NAME|FILE", help="a published method laid over the plan")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the plan: training.epochs=50 (repeatable; training.* also for stages that are trained before)",
    )
    length = parser.add_argument_group("length")
    length.add_argument("--epochs", type=int, metavar="N", help="epochs (default: the plan's)")
    length.add_argument("--iterations", type=int, metavar="N", help="steps per epoch (default: the plan's)")
    length.add_argument("--budget", metavar="TIME", help="stop after this wall time, validation included: 30m, 2h, 90s")
    length.add_argument(
        "--until-plateau", type=int, nargs="?", const=_PLATEAU_EPOCHS, metavar="N",
        help=f"come to the end after N epochs without a better running Dice (alone: {_PLATEAU_EPOCHS})",
    )  # fmt: skip
    length.add_argument(
        "--stop", action="store_true", help="tell the training that runs elsewhere to anneal and come to its end"
    )
    start = parser.add_argument_group("start")
    start.add_argument("--pretrained", type=Path, metavar="PACKAGE", help="start from these weights, where they fit")
    start.add_argument("--restart", action="store_true", help="forget an unfinished or finished run and start over")
    start.add_argument("--val", action="store_true", help="only validate the trained fold")
    parser.add_argument(
        "--log", nargs="+", default=[], choices=("tensorboard", "mlflow", "wandb"), help="draw the curves there too"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, auto, or several (cuda:0,cuda:1: one fold each)"
    )
    machine.add_argument("--seed", type=int, help="seed of every random draw (default: the plan's)")
    machine.add_argument(
        "--executor", metavar="NAME",
        help="of the folds of cv: serial (one after another), local (one on each device) or dask (default: serial)",
    )  # fmt: skip
    machine.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the Dask cluster that is to train the folds: tcp://10.0.0.7:8786"
    )
    machine.add_argument("-np", "--workers", type=common.count, metavar="N", help="threads that make batches")
    return parser


def _work(arguments: argparse.Namespace, observer: Observer) -> Outcome:
    """Train, or tell a running training to end."""
    from bts_auto import steps

    if arguments.stop:
        return steps.stop_training(
            arguments.configuration,
            arguments.fold,
            **common.place(arguments),
            recipe=arguments.recipe,
            observer=observer,
        )
    return steps.train(
        arguments.configuration,
        arguments.fold,
        **common.place(arguments),
        recipe=arguments.recipe,
        settings=arguments.set,
        epochs=arguments.epochs,
        iterations=arguments.iterations,
        until_plateau=arguments.until_plateau,
        budget=common.seconds(arguments.budget),
        pretrained=arguments.pretrained,
        restart=arguments.restart,
        validate_only=arguments.val,
        device=arguments.device,
        executor=arguments.executor,
        scheduler=arguments.scheduler,
        seed=arguments.seed,
        workers=arguments.workers,
        loggers=arguments.log,
        observer=observer,
    )


def _train_along(parser: argparse.ArgumentParser, argv: list[str] | None, launch: Launch) -> int:
    """Work for the first of the processes that torchrun has started; it alone says anything, but for a failure here."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        parser.parse_args(argv)
    from bts_auto import machine
    from bts_auto.train.follower import train_along

    machine.keep_freed_memory()
    try:
        return train_along(launch)
    except KeyboardInterrupt:
        return common.INTERRUPTED
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        print(f"{parser.prog}: error: process {launch.rank}: {words}", file=sys.stderr)
        return common.NOTHING_DONE


if __name__ == "__main__":
    sys.exit(main())
