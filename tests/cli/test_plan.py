"""`bts_plan` from files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bts_auto.cli.plan import main
from bts_auto.files import write_json
from tests.plan.cases import dataset, fingerprint


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Arguments that name a fingerprint and a dataset.json."""
    fingerprint().save(tmp_path / "fingerprint.json")
    write_json(tmp_path / "dataset.json", dataset(name="Phantoms"))
    return ["--fingerprint", str(tmp_path / "fingerprint.json"), "--dataset", str(tmp_path / "dataset.json")]


def test_json_without_an_output_holds_the_plan(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*files, "--json", "--preset", "resenc_m", "--gpu-memory", "4"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["dataset_name"], plan["preset"], plan["gpu_memory_gb"]) == ("Phantoms", "resenc_m", 4)


def test_sizes_and_reasons_are_printed(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*files, "--explain", "--gpu-memory", "8", "--name", "Dataset007_Other"]) == 0
    out = capsys.readouterr().out
    assert "3d_fullres: patch" in out
    assert "GB at the peak" in out
    assert "Normalisation follows the channels' names" in out


def test_planning_for_a_named_memory_loads_no_torch(files: list[str]):
    code = "import sys; from bts_auto.cli.plan import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *files, "--gpu-memory", "2", "-q"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_budget_is_a_duration(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*files, "--budget", "soon"]) == 2
    assert "30m" in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]):
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["version"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--gpu-memory", "-3"], "GB"),
        (["--gpu-memory", "0.000001"], "no patch fits"),
        (["--fingerprint", "missing.json"], "missing.json: no such file"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    files: list[str], extra: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*files, *extra, "-o", str(tmp_path / "plan.json")]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "plan.json").exists()


def test_a_fingerprint_alone_is_not_enough(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(files[:2]) == 2
    assert "--dataset" in capsys.readouterr().err


def test_output_belongs_to_files(capsys: pytest.CaptureFixture[str]):
    assert main(["-o", "plan.json"]) == 2
    assert "--fingerprint" in capsys.readouterr().err
