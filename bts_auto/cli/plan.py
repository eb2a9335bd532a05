"""`bts_plan`: plan a measured dataset, or plan from a fingerprint file alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bts_auto.cli import common
from bts_auto.cli.planning import add_fold_options, add_planning_options, fold_options, planning_options


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_plan", "Decide patch, network, batch and preprocessing from a fingerprint.")
    add_planning_options(parser)
    add_fold_options(parser)
    group = parser.add_argument_group("planning without a workspace")
    group.add_argument(
        "--fingerprint", type=Path, metavar="FILE", help="a fingerprint; --dataset then names a dataset.json"
    )
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the plan is written")
    group.add_argument("--name", help="name of the dataset in the plan")
    parser.add_argument("--explain", action="store_true", help="say why each choice was made")
    parser.add_argument("--schema", action="store_true", help="print the plan's JSON Schema and end")

    def work(arguments: argparse.Namespace, observer):
        if arguments.schema:
            return _schema()
        if arguments.fingerprint is None:
            return _in_workspace(arguments, observer)
        return _from_files(arguments, observer)

    return common.run(parser, argv, work)


def _schema():
    from bts_auto.plan.json_schema import plan_schema
    from bts_auto.steps.place import Outcome

    schema = plan_schema()
    return Outcome(1, (), {"schema": schema}, (json.dumps(schema, indent=2),))


def _in_workspace(arguments: argparse.Namespace, observer):
    from bts_auto import steps
    from bts_auto.errors import PlanError
    from bts_auto.steps.plan_files import explained

    for given, flag in ((arguments.output, "-o"), (arguments.name, "--name")):
        if given is not None:
            raise PlanError(f"{flag} goes with --fingerprint", mend="a workspace's plan has its place and name")
    planned = steps.plan(
        **common.place(arguments), **planning_options(arguments), splits=fold_options(arguments), observer=observer
    )
    return explained(planned) if arguments.explain else planned


def _from_files(arguments: argparse.Namespace, observer):
    from bts_auto.errors import PlanError
    from bts_auto.steps.plan_files import plan_files

    dataset = common.option(arguments, "dataset")
    if dataset is None:
        raise PlanError("--fingerprint needs a dataset.json", mend="name it with --dataset")
    if fold_options(arguments):
        raise PlanError("folds are drawn in a workspace", where="--fingerprint", mend="leave out the options of folds")
    return plan_files(
        arguments.fingerprint,
        Path(dataset),
        **planning_options(arguments),
        name=arguments.name,
        output=arguments.output,
        workspace=common.option(arguments, "workspace"),
        explain=arguments.explain,
        observer=observer,
    )
