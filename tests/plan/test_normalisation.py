"""Normalisation by channel name."""

import pytest

from bts_auto.plan.normalisation import normalisation_schemes


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "CTNormalization"),
        ("ct", "CTNormalization"),
        ("noNorm", "NoNormalization"),
        ("zscore", "ZScoreNormalization"),
        ("rescale_to_0_1", "RescaleTo01Normalization"),
        ("RGB_to_0_1", "RGBTo01Normalization"),
        ("FLAIR", "ZScoreNormalization"),
        ("", "ZScoreNormalization"),
    ],
)
def test_scheme_follows_the_name(name: str, scheme: str):
    assert normalisation_schemes([name], 1.0) == ([scheme], [False])


def test_masks_serve_z_scores_of_strongly_cropped_cases_only():
    assert normalisation_schemes(["T1", "CT"], 0.7499)[1] == [True, False]
    assert normalisation_schemes(["T1", "CT"], 0.75)[1] == [False, False]
