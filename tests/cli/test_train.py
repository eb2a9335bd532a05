"""`bts_train` as a person calls it, on a tiny dataset."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bts_auto.cli.train import main
from bts_auto.train.journal import JOURNAL, read_journal
from tests.steps.cascade_data import FIRST, NAME, make_workspace

SECOND = "3d_fullres"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def first(workspace):
    """The folder of a fold that one command has trained to its plateau."""
    long = ("--epochs", "200", "--iterations", "1", "--set", "training.optimizer.options.lr=1e-30")
    assert call(workspace, FIRST, 0, *long, "--until-plateau", "1") == 0
    return workspace / "results" / NAME / f"default__{FIRST}" / "fold_0"


def call(workspace, *arguments) -> int:
    common = ("--workspace", workspace, "--device", "cpu", "-np", 0, "--json")
    return main([str(argument) for argument in (*arguments, *common)])


def test_training_ends_at_a_plateau(first):
    epochs = read_journal(first / JOURNAL, "epoch")
    assert len(epochs) < 100
    assert epochs[-1]["fraction"] == 1.0


def test_what_was_not_taken_from_pretrained_weights_is_listed(workspace, first, capsys):
    """With fewer features in its last stage, a network shares some of the weights only."""
    narrow = ("--set", "features_per_stage=[4,6]", "--epochs", 1, "--iterations", 1)
    status = call(workspace, SECOND, 0, *narrow, "--pretrained", first)
    heard = capsys.readouterr()
    assert status == 0
    line = next(line for line in heard.err.splitlines() if "not taken from fold_0" in line)
    assert "(8, 4, 3, 3, 3), here (6, 4, 3, 3, 3)" in line


def test_a_plateau_without_held_out_patches_is_refused(workspace, capsys):
    assert call(workspace, FIRST, "all", "--until-plateau") == 2
    assert "there are none" in json.loads(capsys.readouterr().out)["error"]


def test_there_is_nothing_to_stop(workspace, capsys):
    assert call(workspace, FIRST, "cv", "--stop") == 2
    assert "is running" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.slow
def test_torchrun_trains_in_two_processes(tmp_path):
    """The journal is written once, and only the first process says anything."""
    made = make_workspace(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "bts_auto.cli.train"]
    options = [FIRST, 0, "--workspace", made, "--device", "cpu", "--epochs", 2, "--set", "batch_size=2", "--json"]
    done = subprocess.run([*command, *map(str, options)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["folds"]) == ["0"]
    folder = made / "results" / NAME / f"default__{FIRST}" / "fold_0"
    assert [record["epoch"] for record in read_journal(folder / JOURNAL, "epoch")] == [0, 1]
