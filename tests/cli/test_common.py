"""What commands say about failures, and what they print for machines."""

from __future__ import annotations

import json

import pytest

from bts_auto.cli import common
from bts_auto.errors import CaseFailure
from bts_auto.steps import Outcome


def run(work, *arguments: str) -> int:
    return common.run(common.parser("bts_try", "Tries."), list(arguments), work)


def test_a_failure_is_said_once_with_its_case_once(capsys):
    early, late = CaseFailure("anna", "anna: is torn"), CaseFailure("bert", "is empty")

    def work(arguments, observer):
        observer.failed(early)
        return Outcome(1, (early, late))

    assert run(work) == 1
    assert capsys.readouterr().err.splitlines() == ["failed: anna: is torn", "bts_try: failed: bert: is empty"]


def test_a_usage_error_is_json_on_request(capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda arguments, observer: Outcome(1), "--json", "--no-such-option")
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert "--no-such-option" in json.loads(shown.out)["error"]
    assert len(shown.err.splitlines()) == 1


def test_an_interrupt_is_json_on_request(capsys):
    def work(arguments, observer):
        raise KeyboardInterrupt

    assert run(work, "--json") == 130
    assert json.loads(capsys.readouterr().out)["status"] == "interrupted"


@pytest.mark.parametrize("text", ["-2", "1.5", "many"])
def test_a_number_of_workers_is_whole_and_not_negative(text):
    parser = common.parser("bts_try", "Tries.")
    parser.add_argument("-np", type=common.count)
    with pytest.raises(SystemExit):
        parser.parse_args([f"-np={text}"])
    assert parser.parse_args(["-np", "3"]).np == 3
