"""What is remembered of a machine's speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bts_auto.plan.rate import RATES_FILE, Rate, Rates, Sizes


def rate(tflop: float = 1.0, seconds: float = 2.0, **fields) -> Rate:
    values = {"hardware": "here", "precision": "fp32", "network": "plain_unet", "dims": 3, "source": "trial"}
    return Rate.model_validate(values | {"step_tflop": tflop, "step_seconds": seconds} | fields)


def test_the_nearest_size_tells():
    rates = Rates().add(rate(1.0, 2.0)).add(rate(10.0, 10.0))
    assert rates.nearest("here", "plain_unet", 3, 7.0).tflops == 1.0
    assert rates.nearest("here", "plain_unet", 3, 0.1).tflops == 0.5


def test_other_machines_networks_and_dimensions_tell_nothing():
    rates = Rates().add(rate())
    assert rates.nearest("there", "plain_unet", 3, 1.0) is None
    assert rates.nearest("here", "residual_unet", 3, 1.0) is None
    assert rates.nearest("here", "plain_unet", 2, 1.0) is None


def test_the_same_step_is_measured_again():
    rates = Rates().add(rate(1.0, 2.0)).add(rate(1.0, 3.0))
    assert [one.step_seconds for one in rates.rates] == [3.0]


def test_a_trial_does_not_replace_a_training():
    rates = Rates().add(rate(1.0, 2.0, source="training")).add(rate(1.0, 3.0))
    assert [one.source for one in rates.rates] == ["training"]


def test_rates_come_back_from_the_disk(tmp_path: Path):
    rates = Rates().add(rate())
    rates.save(tmp_path)
    assert Rates.load(tmp_path) == rates


def test_a_file_of_another_version_is_forgotten(tmp_path: Path):
    (tmp_path / RATES_FILE).write_text('{"speeds": []}')
    assert Rates.load(tmp_path) == Rates()


def test_what_a_busy_machine_took_gives_way_to_a_calm_one():
    busy = Rates().add(rate(1.0, 9.0, others=0.4)).add(rate(2.0, 20.0, others=0.4))
    assert [one.step_seconds for one in busy.add(rate(5.0, 5.0)).rates] == [5.0]
    assert [one.step_seconds for one in Rates().add(rate(5.0, 5.0)).add(rate(1.0, 9.0, others=0.4)).rates] == [5.0]


def test_the_longest_steps_tell_of_long_ones():
    rates = Rates().add(rate(1.0, 2.0)).add(rate(10.0, 8.0))
    assert rates.lasting("here", "plain_unet", 3, 10.0).step_tflop == 10.0  # type: ignore[union-attr]


def test_a_machine_is_forgotten():
    rates = Rates().add(rate()).add(rate(hardware="there"))
    assert [one.hardware for one in rates.without("here").rates] == ["there"]


SIZES = {
    "patch_size": (64, 64, 64),
    "batch_size": 2,
    "features": (32, 64),
    "channels": (2, 4),
    "optimizer": "sgd",
    "objective": "segmentation",
}


def like(**fields) -> Sizes:
    return Sizes.model_validate(SIZES | fields)


def test_steps_of_the_same_width_are_nearer_than_those_of_the_same_size():
    narrow = rate(0.2, 0.5, sizes=SIZES | {"features": (16, 32)})
    rates = Rates().add(narrow).add(rate(0.7, 1.4, sizes=SIZES))
    assert rates.nearest("here", "plain_unet", 3, 0.6, sizes=like(features=(16, 32))) == narrow
    assert rates.nearest("here", "plain_unet", 3, 0.2, sizes=like()) != narrow
    assert rates.nearest("here", "plain_unet", 3, 0.2) == narrow


@pytest.mark.parametrize(
    "other", [{"optimizer": "adam"}, {"objective": "autoencoder"}, {"patch_size": (128, 64, 64), "batch_size": 1}]
)
def test_the_very_same_step_tells_most_whatever_was_measured_last(other: dict):
    rates = Rates().add(rate(1.0, 1.0, sizes=SIZES)).add(rate(1.0, 3.0, sizes=SIZES | other))
    assert rates.nearest("here", "plain_unet", 3, 1.0, sizes=like()).step_seconds == 1.0  # type: ignore[union-attr]
    assert rates.nearest("here", "plain_unet", 3, 1.0, sizes=like(**other)).step_seconds == 3.0  # type: ignore[union-attr]


def test_a_step_with_the_same_optimiser_tells_more_than_one_that_is_a_little_nearer():
    rates = Rates().add(rate(1.0, 1.0, sizes=SIZES)).add(rate(2.0, 6.0, sizes=SIZES | {"optimizer": "adam"}))
    assert rates.nearest("here", "plain_unet", 3, 2.0, sizes=like()).step_seconds == 1.0  # type: ignore[union-attr]


def test_a_file_that_knows_no_sizes_yet_is_read(tmp_path: Path):
    new = {"chosen", "sizes", "peak_gb"}
    (tmp_path / RATES_FILE).write_text(json.dumps({"rates": [rate().model_dump(mode="json", exclude=new)]}))
    assert Rates.load(tmp_path) == Rates().add(rate())


def test_a_named_number_format_is_not_foretold_from_another():
    rates = Rates().add(rate(1.0, 1.0, precision="bf16"))
    assert rates.nearest("here", "plain_unet", 3, 1.0, "fp32") is None
    assert rates.add(rate(1.0, 3.0)).nearest("here", "plain_unet", 3, 1.0, "bf16").step_seconds == 1.0  # type: ignore[union-attr]


def test_auto_is_the_number_format_that_was_found_best():
    rates = Rates().add(rate(1.0, 1.0, precision="bf16", chosen=True)).add(rate(8.0, 24.0))
    assert rates.nearest("here", "plain_unet", 3, 8.0).precision == "bf16"  # type: ignore[union-attr]
    assert rates.lasting("here", "plain_unet", 3, 24.0).precision == "bf16"  # type: ignore[union-attr]


def test_steps_of_other_sizes_stand_beside_each_other():
    rates = Rates().add(rate(sizes=SIZES)).add(rate(sizes=SIZES | {"optimizer": "adam"}))
    assert len(rates.rates) == 2


def test_what_a_trial_found_out_outlives_a_better_time():
    trial, training = rate(sizes=SIZES, peak_gb=1.5, chosen=True), rate(1.0, 3.0, sizes=SIZES, source="training")
    for first, second in ((trial, training), (training, trial)):
        (known,) = Rates().add(first).add(second).rates
        assert (known.source, known.step_seconds, known.peak_gb, known.chosen) == ("training", 3.0, 1.5, True)
