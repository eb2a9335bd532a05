"""A folder that fills while the model stays loaded."""

import itertools
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bts_auto.errors import DataError
from bts_auto.model.package import export_package
from bts_auto.predict import watch
from bts_auto.predict.cases import CaseTask
from bts_auto.predict.watch import watch_folder
from tests.model.tiny import tiny_fold
from tests.predict.spread_models import LoadThreshold
from tests.predict.test_folder import Listening, write_case


class Clock:
    """Time that passes only where the watcher sleeps; `at[n]` happens before the n-th look."""

    def __init__(self, monkeypatch, **at):
        self.now, self.looks = 0.0, itertools.count()
        self.at = {int(number[1:]): action for number, action in at.items()}
        self.end = max(self.at) + 6
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)

    def stop(self) -> bool:
        look = next(self.looks)
        self.at.get(look, lambda: None)()
        return look == self.end

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    write_case(tmp_path / "made", "anna", seed=0)
    write_case(tmp_path / "made", "bert", seed=1)
    return tmp_path


def run(folder, clock):
    listening = Listening()
    task = CaseTask(LoadThreshold())
    watch_folder(task, folder / "in", folder / "out", observer=listening, stop=clock.stop, sleep=clock.sleep)
    return [note.split(":")[0] for note in listening.notes if "out" in note], listening.warnings


def arrives(folder, name, share=1.0):
    def copy():
        content = (folder / "made" / name).read_bytes()
        (folder / "in" / name).write_bytes(content[: int(share * len(content))])

    return copy


def test_cases_are_done_once_as_they_arrive(folder, monkeypatch):
    def both():
        for path in sorted((folder / "made").glob("anna*")):
            shutil.copy(path, folder / "in")

    first, second = (arrives(folder, f"bert_000{number}.nii.gz") for number in range(2))
    done, warnings = run(folder, Clock(monkeypatch, n1=both, n2=first, n9=second))
    assert done == ["anna", "bert"]
    assert not warnings


def test_a_file_that_still_grows_is_waited_for(folder, monkeypatch):
    arrives(folder, "anna_0000.nii.gz")()
    growing = {f"n{n}": arrives(folder, "anna_0001.nii.gz", n / 6) for n in range(1, 7)}
    done, warnings = run(folder, Clock(monkeypatch, **growing))
    assert done == ["anna"]
    assert not warnings


def test_a_bad_case_is_named_once_and_tried_again_when_it_changes(folder, monkeypatch):
    arrives(folder, "anna_0000.nii.gz")()
    torn, whole = (arrives(folder, "anna_0001.nii.gz", share) for share in (0.5, 1))
    done, warnings = run(folder, Clock(monkeypatch, n1=torn, n10=whole))
    assert done == ["anna"]
    assert len(warnings) == 1
    assert "anna_0001" in warnings[0]


def test_what_an_earlier_run_has_finished_is_left_alone(folder, monkeypatch):
    for path in (folder / "made").iterdir():
        shutil.copy(path, folder / "in")
    assert run(folder, Clock(monkeypatch, n1=lambda: None))[0] == ["anna", "bert"]
    assert run(folder, Clock(monkeypatch, n1=lambda: None))[0] == []


def test_a_folder_that_does_not_exist_is_refused(folder):
    with pytest.raises(DataError, match="no such folder"):
        watch_folder(CaseTask(LoadThreshold()), folder / "nowhere", folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_ctrl_c_ends_the_command_with_130_and_whole_masks(folder, device):
    package = export_package([tiny_fold(folder)], folder / "model.zip")
    (folder / "out").mkdir()
    # A shell starts what runs in the background with Ctrl-C switched off, and so might whatever runs this test.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from bts_auto.cli.predict import main; sys.exit(main())"
    options = ["--watch", "in", "-o", "out", "-m", str(package), "--engine", "torch", "--device", device]
    command = [sys.executable, "-c", code, *options]
    for path in (folder / "made").glob("anna*"):
        shutil.copy(path, folder / "in")
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as started:
        while not (folder / "out" / "anna.nii.gz").exists():
            assert started.poll() is None
            time.sleep(0.1)
        helpers = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(signal.SIGINT)
        said = started.communicate(timeout=60)[1]
    assert started.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert not list((folder / "out").glob(".writing*"))
