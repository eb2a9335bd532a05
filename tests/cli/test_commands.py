"""Every command as a person meets it: help, usage errors, and what it imports before it works."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

COMMANDS = {e.name: e.value for e in entry_points(group="console_scripts") if e.name.startswith("bts_")}
HEAVY = ("torch", "numpy", "scipy", "SimpleITK", "pydantic", "matplotlib", "skimage", "sklearn")


def call(command: str, *arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    module = COMMANDS[command].split(":")[0]
    code = f"import sys; from {module} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_the_commands_are_installed():
    assert {"bts_plan_and_preprocess", "bts_train", "bts_predict", "bts_ensemble", "bts_evaluate"} <= set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_says_what_it_does_and_imports_nothing_heavy(command):
    module = COMMANDS[command].split(":")[0]
    code = (
        f"import sys\nfrom {module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    status = stop.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('heavy:', loaded); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: " + command in done.stdout
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_an_unknown_option_is_one_line_and_status_2(command):
    done = call(command, "--no-such-option", "x", "y", "z")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"{command}: error: ")


@pytest.mark.parametrize(
    "arguments", [("bts_plan_and_preprocess",), ("bts_train", "3d_fullres", "0"), ("bts_ensemble",)]
)
def test_an_unknown_dataset_is_one_line_and_status_2(arguments, tmp_path):
    command, *rest = arguments
    done = call(command, *rest, "-d", "21", "--workspace", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "21" in done.stderr


def test_an_error_is_json_on_request(tmp_path):
    done = call("bts_ensemble", "-d", "21", "--json", "--workspace", str(tmp_path), cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert answer["status"] == "error"
    assert "21" in answer["error"]


@pytest.mark.parametrize("budget", ["30", "m", "-3m", "1e999h"])
def test_a_wrong_duration_is_refused(budget, tmp_path):
    done = call("bts_train", "2d", "0", f"--budget={budget}", "--workspace", str(tmp_path))
    assert done.returncode == 2
    assert "--budget" in done.stderr
