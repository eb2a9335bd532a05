"""Planning from two JSON files, without a workspace and without images; and the reasons of a plan."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bts_auto.errors import PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json
from bts_auto.steps.place import FINGERPRINT_FILE, Outcome


def plan_files(
    fingerprint: Path,
    dataset: Path,
    *,
    gpu_memory: float | None = None,
    preset: str | None = None,
    planner: Literal["nnunet", "measured"] | None = None,
    budget: float | None = None,
    device: str = "auto",
    measure_again: bool = False,
    recipe: str | Path | None = None,
    name: str | None = None,
    output: Path | None = None,
    workspace: Path | None = None,
    explain: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Plan from a fingerprint file and a dataset.json.

    Parameters
    ----------
    gpu_memory, preset, planner, budget, device, measure_again
        Those of :class:`bts_auto.steps.planning.Request`.
    recipe : optional
        A method laid over the plan.
    workspace : Path, optional
        Where the speed of this machine is remembered, if it is there.
    name : str, optional
        The dataset's name in the plan; None: its folder's, where that is named DatasetXXX_Name, else the file's "name".
    output : Path, optional
        Where the plan is written; None: it is only returned.
    explain : bool
        Add a reason for every choice to the lines.
    """
    from bts_auto.data.fingerprint import Fingerprint
    from bts_auto.plan.explain import explain as explain_plan
    from bts_auto.plan.recipes import load_recipe
    from bts_auto.steps.planning import Planning, Request
    from bts_auto.steps.prepare import plan_lines

    document = read_json(dataset)
    if not isinstance(document, dict):
        raise PlanError("a dataset.json is a JSON object", where=dataset)
    found = Fingerprint.load(fingerprint)
    chosen = name or _dataset_name(dataset, document)
    laid = None if recipe is None else load_recipe(recipe)
    preset = preset or (laid.preset if laid is not None else None) or "plain"
    request = Request(gpu_memory, preset, planner, budget, device, measure_again)
    with _rates_folder(workspace) as rates:
        planning = Planning(found, document, chosen, request, rates, observer, laid)
        made = planning.laid(planning.make(preset))
    data: dict[str, Any] = {"plan": made.model_dump(mode="json") if output is None else str(output)}
    lines = list(plan_lines(made))
    if explain:
        data["reasons"] = explain_plan(made, found)
        lines += ["", *data["reasons"]]
    if output is not None:
        made.save(output)
        lines.append(f"plan: {output}")
    return Outcome(1, (), data, tuple(lines))


@contextlib.contextmanager
def _rates_folder(workspace: Path | None) -> Iterator[Path]:
    """The workspace's, where there is one; else one that is forgotten."""
    from bts_auto.data.workspace import Workspace

    place = Workspace.locate(workspace).preprocessed
    if place.is_dir():
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def explained(planned: Outcome) -> Outcome:
    """The outcome of planning in a workspace, with a reason for every choice."""
    from bts_auto.data.fingerprint import Fingerprint
    from bts_auto.plan.explain import explain
    from bts_auto.plan.schema import Plan

    path = Path(planned.data["plan"])
    reasons = explain(Plan.load(path), Fingerprint.load(path.parent / FINGERPRINT_FILE))
    return replace(planned, data=planned.data | {"reasons": reasons}, lines=(*planned.lines, "", *reasons))


def _dataset_name(path: Path, document: dict) -> str:
    folder = path.resolve().parent.name
    return folder if folder.startswith("Dataset") else str(document.get("name") or "Dataset")
