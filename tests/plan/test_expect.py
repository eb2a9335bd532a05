"""What a plan says about its cost."""

from __future__ import annotations

import pytest

from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.expect import duration, expect, in_words, with_expected
from bts_auto.plan.memory_model import plan_memory
from bts_auto.plan.rate import Rates
from tests.plan.cases import plan
from tests.plan.test_rate import rate


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.314, "0.31 s"),
        (42, "42 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3600, "60 min"),
        (5400, "1.5 h"),
        (1e7, "116 days"),
    ],
)
def test_durations_are_short(seconds: float, words: str):
    assert duration(seconds) == words


def test_without_a_rate_there_is_memory_and_no_time():
    made = plan(gpu_memory_gb=1)
    expected = expect(made, "3d_fullres")
    assert expected.memory_gb == pytest.approx(plan_memory(made, "3d_fullres").peak / 2**30)
    assert expected.step_seconds is None


def test_an_epoch_is_its_steps_and_held_out_patches():
    made = plan(gpu_memory_gb=1)
    compute, configuration = plan_compute(made, "3d_fullres"), made.configuration("3d_fullres")
    expected = expect(made, "3d_fullres", rate(tflop=1.0, seconds=2.0))
    flop = 250 * compute.step + 50 * configuration.batch_size * compute.inference
    assert expected.step_seconds == pytest.approx(2 * compute.step / 1e12)
    assert expected.epoch_seconds == pytest.approx(2 * flop / 1e12)


def test_activations_take_less_in_the_precision_that_was_measured():
    made = plan(gpu_memory_gb=1)
    half = expect(made, "3d_fullres", rate(precision="bf16")).memory_gb
    assert half < 0.75 * expect(made, "3d_fullres").memory_gb


def test_each_configuration_has_its_own_cost():
    made = with_expected(plan(gpu_memory_gb=1), Rates().add(rate()), "here")
    assert set(made.expected) == set(made.configurations)
    assert made.expected["2d"].step_seconds is None
    assert made.expected["3d_fullres"].hardware == "here"
    assert "a step" in in_words(made, "3d_fullres")


def test_what_is_expected_decides_nothing():
    made = plan(gpu_memory_gb=1)
    assert with_expected(made, Rates().add(rate()), "here").content_hash() == made.content_hash()
