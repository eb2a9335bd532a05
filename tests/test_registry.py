"""Every registered component exists, and its options can be read without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bts_auto import registry
from bts_auto.errors import PlanError

ALL = [(kind, name) for kind, table in registry.TABLE.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_component_can_be_imported(kind, name):
    assert registry.component(kind, name) is not None


def test_options_need_no_torch():
    references = {entry.options for table in registry.TABLE.values() for entry in table.values() if entry.options}
    modules = sorted({reference.split(":")[0] for reference in references})
    code = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(PlanError, match="no network is called 'plain_unte' - did you mean 'plain_unet'"):
        registry.component("network", "plain_unte")


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(PlanError, match=r"unknown key 'momentun'.*did you mean 'momentum'"):
        registry.options("optimizer", "sgd", {"momentun": 0.9})
