"""Disagreement of members: mutual information against SciPy, and dropout samples as members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from bts_auto.errors import PlanError
from bts_auto.predict.members import with_entropy
from bts_auto.predict.predictor import CasePredictor
from bts_auto.predict.window import predict_array
from tests.predict.models import (
    FunctionEngine,
    MemoryFold,
    ThresholdNetwork,
    make_configuration,
    make_plan,
    make_volume,
)

PLAN = make_plan(make_configuration((8, 8, 8)))


class Dropping(torch.nn.Module):
    """Three labels by the brightness of the first channel, some of it dropped."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(share)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        value = self.dropout(x[:, :1])
        return {"logits": [torch.cat([0 * value, 4 * (value - 0.3), 8 * (value - 0.7)], dim=1)]}


def _shifted(shift: float) -> FunctionEngine:
    return FunctionEngine(lambda batch: torch.cat([batch, batch**2 - shift, shift * batch], dim=1))


def _image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)


def test_the_last_channel_is_the_mean_of_the_members_entropies_over_labels() -> None:
    engines = [_shifted(0.5), _shifted(2.0)]
    answer = predict_array(engines, _image(), make_configuration(), member_entropy=True).numpy()
    each = [predict_array(one, _image(), make_configuration()).numpy() for one in engines]
    np.testing.assert_allclose(answer[:-1], np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(answer[-1], np.mean([scipy_entropy(p, axis=0, base=3) for p in each], axis=0), atol=1e-5)


def test_regions_have_the_mean_of_their_binary_entropies() -> None:
    logits = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 5
    p = torch.sigmoid(logits).double().numpy()
    found = with_entropy(torch.sigmoid, regions=True)(logits)[:, -1].numpy()
    np.testing.assert_allclose(found, scipy_entropy(np.stack([p, 1 - p]), base=2).mean(axis=1), atol=1e-5)


def test_certain_answers_have_no_entropy() -> None:
    for regions in (True, False):
        found = with_entropy(None, regions=regions)(torch.tensor([-200.0, 300.0]).reshape(1, 2, 1))
        assert found[0, -1].item() == pytest.approx(0, abs=1e-6)


def _predictor(networks: list[torch.nn.Module], **options) -> CasePredictor:
    folds = [MemoryFold(PLAN, network) for network in networks]
    return CasePredictor(folds, device="cpu", precision="fp32", tta=False, member_entropy=True, **options)


def test_members_that_agree_share_all_information_and_others_do_not() -> None:
    class Other(ThresholdNetwork):
        def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"logits": [super().forward(x)["logits"][0].flip(1)]}

    volume = make_volume()
    for networks, agree in (([ThresholdNetwork(), ThresholdNetwork()], True), ([ThresholdNetwork(), Other()], False)):
        predictor = _predictor(networks, engine="torch", tile="whole")
        made = predictor.predict(volume, keep_scores=True)
        found = predictor.mutual_information(made)
        assert found.shape == volume.geometry.size
        assert bool(found.max() < 1e-4) is agree
        assert (found <= predictor.uncertainty(made) + 1e-6).all()


def test_the_mask_does_not_depend_on_whether_disagreement_is_asked_for() -> None:
    volume = make_volume()
    asked = _predictor([ThresholdNetwork()], engine="torch").predict(volume)
    plain = CasePredictor([MemoryFold(PLAN)], device="cpu", engine="torch", precision="fp32", tta=False).predict(volume)
    np.testing.assert_array_equal(asked.mask, plain.mask)


def test_dropout_samples_are_members_and_the_same_every_time() -> None:
    volume = make_volume()
    predictor = _predictor([Dropping(0.5)], mc_dropout=4, seed=7)
    before = torch.random.get_rng_state()
    first, again = (predictor.predict(volume, keep_scores=True) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first.kept()[0], again.kept()[0])
    assert predictor.mutual_information(first).max() > 0.05
    other = _predictor([Dropping(0.5)], mc_dropout=4, seed=8).predict(volume, keep_scores=True)
    assert not np.array_equal(first.kept()[0], other.kept()[0])


def test_without_the_option_nothing_is_dropped() -> None:
    volume = make_volume()
    dropped = _predictor([Dropping(0.5)], engine="torch").predict(volume)
    plain = _predictor([ThresholdNetwork()], engine="torch").predict(volume)
    np.testing.assert_array_equal(dropped.mask, plain.mask)


@pytest.mark.parametrize("network", [ThresholdNetwork(), Dropping(0.0)], ids=["none", "switched off"])
def test_a_network_without_dropout_is_refused(network: torch.nn.Module) -> None:
    with pytest.raises(PlanError, match="trained with dropout"):
        _predictor([network], mc_dropout=3)


def test_an_engine_that_cannot_drop_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot drop channels"):
        _predictor([Dropping(0.5)], mc_dropout=3, engine="openvino")


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(PlanError, match="no answer"):
        _predictor([Dropping(0.5)], mc_dropout=-1)
