"""Adapters to programs that draw curves; the programs themselves are stood in for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from bts_auto.errors import BtsError
from bts_auto.events import Observer
from bts_auto.train.loggers import LoggedRun, log_all, numbers, open_loggers

RECORD = {"loss": 0.5, "terms": {"dice": -0.25}, "running_dice": None, "step": 4, "lr": 0.01}
VALUES = {"loss": 0.5, "terms/dice": -0.25, "step": 4.0, "lr": 0.01}


class Recorder:
    """Any module or object: remembers what is called on it."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls.append((name, arguments, options))
            return self

        return call


@pytest.fixture
def run(tmp_path):
    return LoggedRun(tmp_path, "Dataset001_Tiny", "default 3d_fullres, fold 0", {"seed": 0})


def use(name, run):
    loggers = open_loggers([name], run)
    log_all(loggers, RECORD, 3)
    loggers[0].close()


def test_nested_numbers_are_joined_and_the_rest_is_left_out():
    assert numbers(RECORD | {"text": "no number", "flag": True}) == VALUES


def test_tensorboard_gets_scalars(run, monkeypatch):
    writer, module = Recorder(), ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = lambda folder: writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    use("tensorboard", run)
    scalars = [("add_scalar", (name, value, 3), {}) for name, value in VALUES.items()]
    assert writer.calls == [*scalars, ("close", (), {})]


def test_mlflow_gets_metrics_in_a_run(run, monkeypatch):
    module = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    use("mlflow", run)
    assert module.calls[0] == ("set_experiment", ("Dataset001_Tiny",), {})
    assert module.calls[-2:] == [("log_metrics", (VALUES,), {"step": 3}), ("end_run", (), {})]


def test_weights_and_biases_gets_metrics_in_a_run(run, monkeypatch):
    logged = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: logged))
    use("wandb", run)
    assert logged.calls == [("log", (VALUES,), {"step": 3}), ("finish", (), {})]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_program_that_is_not_installed_is_named(run, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BtsError, match="not installed - pip install"):
        open_loggers([name], run)


class Broken(Recorder):
    """Takes the first epoch and cannot be reached any more."""

    def log(self, values, epoch):
        if epoch:
            raise ConnectionError("no route")
        self.calls.append(("log", values, epoch))


def test_a_program_that_fails_is_named_once_and_the_others_go_on():
    warnings = []

    class Heard(Observer):
        def warn(self, message):
            warnings.append(message)

    heard, broken, other = Heard(), Broken(), Recorder()
    loggers = [broken, other]
    for epoch in range(3):
        log_all(loggers, RECORD, epoch, heard)
    assert (len(broken.calls), len(other.calls)) == (1, 3)
    (warning,) = warnings
    assert warning.startswith("Broken is told no more")
