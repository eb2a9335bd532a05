"""Signals and the stop file."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from bts_auto.train.stopping import STOP_FILE, Interruption, TrainingInterrupted, take_stop_file


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(number: int) -> None:
    interruption = Interruption()
    with interruption.listening():
        os.kill(os.getpid(), number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_signal_is_not_waited_for_when_nothing_is_to_be_saved() -> None:
    interruption = Interruption()
    interruption.at_once = True
    with interruption.listening(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().listening():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_off_the_main_thread_nothing_is_changed() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Interruption().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_stop_file_is_taken_once(tmp_path: Path) -> None:
    assert not take_stop_file(tmp_path)
    (tmp_path / STOP_FILE).touch()
    assert take_stop_file(tmp_path)
    assert not take_stop_file(tmp_path)


def test_an_interrupted_training_is_no_error() -> None:
    assert not issubclass(TrainingInterrupted, Exception)
