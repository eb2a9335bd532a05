"""A folder of cases by a model package: what is refused before the first case is read, and what is only warned of."""

from __future__ import annotations

import pytest

from bts_auto import steps
from bts_auto.model.package import export_package
from tests.model.tiny import tiny_fold
from tests.predict.test_folder import Listening, write_case

HOW = {"engine": "torch", "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    where = tmp_path_factory.mktemp("package")
    export_package([tiny_fold(where / "results")], where / "model.zip")
    return where / "model.zip"


@pytest.fixture
def images(tmp_path):
    write_case(tmp_path / "in", "anna")
    return tmp_path / "in"


def test_a_picture_that_cannot_be_drawn_is_a_warning(package, images, tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("no shape")

    monkeypatch.setattr("bts_auto.report.overlay.write_overlay", fail)
    listening = Listening()
    outcome = steps.predict(images, tmp_path / "out", model=package, preview=True, observer=listening, **HOW)
    assert (outcome.done, outcome.failures, outcome.data["cases"]) == (1, (), ["anna"])
    assert outcome.lines == (f"1 mask: {tmp_path / 'out'}",)
    assert listening.warnings == ["anna: no picture (TypeError: no shape)"]
