"""Lower precision is a default only because it leaves the masks of trained networks alone.

Agreement over all voxels would prove nothing, since nearly all of them are background: what counts is the Dice of every
region, between the two masks and against the reference.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bts_auto import registry
from bts_auto.data.readers import read_mask, read_volume
from bts_auto.data.volume import Geometry, Volume
from bts_auto.errors import PlanError
from bts_auto.model.nnunet import import_nnunet
from bts_auto.predict.engine import build_engine, has_openvino
from bts_auto.predict.predictor import CasePredictor
from bts_auto.predict.ranges import measure_ranges
from tests.networks.test_contract import build, image
from tests.predict.models import make_configuration

MODEL = "nnunet_model/nnUNetTrainer__nnUNetPlans_1__3d_fullres"
REGIONS = {"WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,)}
# What "harmless" means, for every region.
AGREEMENT, LOSS = 0.995, 0.002

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
ENGINES = ["torch", pytest.param("openvino", marks=needs_openvino)]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    total = one.sum() + other.sum()
    return 2 * (one & other).sum() / total if total else 1.0


class Small(nn.Module):
    """Two resolutions with the layers of the planned U-Nets."""

    def __init__(self) -> None:
        super().__init__()

        def block(given: int, made: int, stride: int = 1) -> nn.Module:
            convolution = nn.Conv3d(given, made, 3, stride, 1)
            return nn.Sequential(convolution, nn.InstanceNorm3d(made, affine=True), nn.LeakyReLU(0.01))

        self.fine, self.coarse = block(1, 8), nn.Sequential(block(8, 16, 2), block(16, 16))
        self.up, self.join, self.head = nn.ConvTranspose3d(16, 8, 2, 2), block(16, 8), nn.Conv3d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        fine = self.fine(x)
        return {"logits": [self.head(self.join(torch.cat([self.up(self.coarse(fine)), fine], 1)))]}


def make_spheres(generator: torch.Generator, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy image of a sphere with a brighter core, and its labels."""
    centre = size * (0.35 + 0.3 * torch.rand(3, generator=generator))
    axes = torch.meshgrid(*[torch.arange(size)] * 3, indexing="ij")
    distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) ** 0.5
    labels = (distance < 7).long() + (distance < 4).long()
    return (labels + 0.5 * torch.randn(labels.shape, generator=generator))[None], labels


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small convolutions on a busy machine: threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(one_thread: None) -> nn.Module:
    """A small network after enough steps to find both spheres."""
    generator = torch.Generator().manual_seed(0)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    network = Small()
    torch.random.set_rng_state(state)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        image, labels = make_spheres(generator)
        loss = nn.functional.cross_entropy(network(image[None])["logits"][0], labels[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_leaves_the_masks_of_a_trained_network_alone(trained, engine):
    check_masks(trained, engine=engine, device="cpu", precision="bf16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_float16_leaves_the_masks_of_a_trained_network_alone(trained):
    check_masks(copy.deepcopy(trained), engine="torch", device="cuda", precision="fp16")


def check_masks(network, *, device, **how):
    """Compare the masks of eight cases with those in single precision."""
    generator = torch.Generator().manual_seed(1)
    cases = [make_spheres(generator) for _ in range(8)]
    batch, labels = torch.stack([image for image, _ in cases]), np.stack([labels.numpy() for _, labels in cases])
    exact = build_engine(network, engine="torch", device="cpu", precision="fp32").logits(batch).argmax(1).numpy()
    brief = build_engine(network, device=device, **how).logits(batch.to(device)).argmax(1).cpu().numpy()
    for values in ((1, 2), (2,)):
        masks = [np.isin(array, values) for array in (exact, brief, labels)]
        assert dice(masks[0], masks[2]) > 0.85
        assert dice(masks[0], masks[1]) >= AGREEMENT
        assert abs(dice(masks[0], masks[2]) - dice(masks[1], masks[2])) <= LOSS


def ranges_of(network, cases):
    """Between which values the layers of the trained network work."""
    configuration = make_configuration(patch_size=(24, 24, 24))
    return measure_ranges(network, [image.numpy() for image, _ in cases], configuration)


@needs_openvino
def test_eight_bit_integers_find_the_regions_as_well(trained):
    generator = torch.Generator().manual_seed(1)
    cases = [make_spheres(generator) for _ in range(8)]
    batch, labels = torch.stack([image for image, _ in cases]), np.stack([labels.numpy() for _, labels in cases])
    exact = build_engine(trained, engine="torch", device="cpu", precision="fp32").logits(batch)
    how = {"engine": "openvino", "device": "cpu", "precision": "int8"}
    brief = build_engine(trained, **how, ranges=ranges_of(trained, cases[:2])).logits(batch)
    assert np.abs(brief.numpy() - exact.numpy()).max() > 1e-3
    for values in ((1, 2), (2,)):
        masks = [np.isin(array, values) for array in (exact.argmax(1).numpy(), brief.argmax(1).numpy(), labels)]
        assert dice(masks[0], masks[1]) >= 0.98
        assert abs(dice(masks[0], masks[2]) - dice(masks[1], masks[2])) <= 0.01


def test_ranges_are_the_least_and_largest_inputs_of_each_convolution_with_zero_among_them(trained):
    image = make_spheres(torch.Generator().manual_seed(4))[0] + 10
    found = ranges_of(trained, [(image, None)])
    # Not the first, of one channel, nor the head, of single voxels, nor the transposed one.
    assert set(found) == {"coarse.0.0", "coarse.1.0", "join.0"}
    fine = trained.fine(image[None]).detach()
    assert found["coarse.0.0"] == pytest.approx((float(fine.min()), float(fine.max())), rel=1e-5)
    coarse = trained.coarse[0](fine).detach() ** 2
    assert found["coarse.1.0"][0] <= 0 <= found["coarse.1.0"][1] <= float(coarse.max()) ** 0.5 * (1 + 1e-5)


@needs_openvino
def test_layers_of_which_openvino_knows_nothing_are_named(trained):
    how = {"engine": "openvino", "device": "cpu", "precision": "int8"}
    with pytest.raises(PlanError, match=r"1 layers .*'elsewhere\.0'"):
        build_engine(trained, **how, ranges={"elsewhere.0": (0.0, 1.0)}).logits(torch.zeros(1, 1, 16, 16, 16))


@pytest.mark.parametrize(
    ("engine", "words"),
    [("torch", "int8 is for the engine openvino"), pytest.param("openvino", "not known", marks=needs_openvino)],
)
def test_eight_bit_integers_are_refused_in_words(trained, engine, words):
    with pytest.raises(PlanError, match=words):
        build_engine(trained, engine=engine, device="cpu", precision="int8")


@needs_openvino
def test_openvino_computes_what_torch_computes(trained):
    batch = torch.randn(2, 1, 16, 16, 24, generator=torch.Generator().manual_seed(2))
    torch_logits = build_engine(trained, engine="torch", device="cpu", precision="fp32").logits(batch)
    found = build_engine(trained, engine="openvino", device="cpu", precision="fp32").logits(batch)
    np.testing.assert_allclose(found.numpy(), torch_logits.numpy(), atol=1e-3)


@needs_openvino
def test_openvino_takes_other_shapes_later(trained, tmp_path):
    engine = build_engine(trained, engine="openvino", device="cpu", precision="fp32", converted=tmp_path / "model")
    exact = build_engine(trained, engine="torch", device="cpu", precision="fp32")
    for size in (16, 20, 16):
        batch = torch.randn(1, 1, size, 16, 16, generator=torch.Generator().manual_seed(size))
        np.testing.assert_allclose(engine.logits(batch).numpy(), exact.logits(batch).numpy(), atol=1e-3)
    assert any(tmp_path.iterdir())


@needs_openvino
def test_openvino_starts_from_what_it_kept_without_the_network(trained, tmp_path):
    how = {"engine": "openvino", "device": "cpu", "precision": "fp32", "converted": tmp_path / "kept" / "model"}
    batch = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    first = build_engine(trained, **how, example=(1, 1, 8, 8, 8)).logits(batch).clone()
    assert not list(tmp_path.rglob("*part*"))

    def no_network():
        raise AssertionError("the network was built again")

    assert torch.equal(build_engine(no_network, **how, example=(1, 1, 8, 8, 8)).logits(batch), first)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def blank(path: Path) -> None:
    """Zeros for some of the content, of the same length."""
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(100) + content[-100:] if path.suffix == ".bin" else content)


@needs_openvino
@pytest.mark.parametrize("damage", [cut, blank])
def test_openvino_makes_what_it_kept_again_when_it_is_damaged(trained, tmp_path, damage):
    how = {"engine": "openvino", "device": "cpu", "precision": "fp32", "converted": tmp_path / "model"}
    batch = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    first = build_engine(trained, **how).logits(batch).clone()
    for path in tmp_path.iterdir():
        damage(path)
    assert torch.equal(build_engine(trained, **how).logits(batch), first)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_leaves_the_masks_of_real_patients_alone(real_data: Path, tmp_path: Path, engine: str):
    folds = import_nnunet(real_data / MODEL, tmp_path)
    volume, reference = tumour_of(real_data, "pat0003")
    masks = {}
    for precision in ("fp32", "bf16"):
        predictor = CasePredictor(folds, device="cpu", engine=engine, precision=precision, tta=False)
        masks[precision] = predictor.predict(volume).mask
    for values in REGIONS.values():
        exact, brief, expert = (np.isin(array, values) for array in (masks["fp32"], masks["bf16"], reference))
        assert dice(exact, brief) >= AGREEMENT
        assert abs(dice(exact, expert) - dice(brief, expert)) <= LOSS


def tumour_of(real_data: Path, patient: str) -> tuple[Volume, np.ndarray]:
    """A patient's scan and label, cut to a box around the tumour."""
    folder = real_data / "Dataset021_BraTS2013"
    images = sorted((folder / "imagesTr").glob(f"*{patient}*"))
    (label,) = (folder / "labelsTr").glob(f"*{patient}*")
    mask, _ = read_mask(label)
    volume = read_volume(images, ("FLAIR", "T1c"))
    middle = np.argwhere(mask > 0).mean(0).astype(int)
    box = tuple(slice(max(0, m - 48), max(0, m - 48) + 96) for m in middle)
    array = volume.array[(slice(None), *box)]
    return Volume(array, Geometry(array.shape[1:], volume.geometry.spacing), volume.channels), mask[box]


@needs_openvino
@pytest.mark.parametrize("name", registry.names("network"))
@pytest.mark.slow
def test_every_network_is_the_same_in_openvino(name):
    network = build(name).eval().requires_grad_(False)
    network.deep_supervision = False
    first, other = image("isotropic"), image("odd")
    engine = build_engine(network, engine="openvino", device="cpu", precision="fp32", example=tuple(first.shape))
    for batch in (first, other):
        np.testing.assert_allclose(engine.logits(batch).numpy(), network(batch)["logits"][0].numpy(), atol=1e-3)


@needs_openvino
@pytest.mark.parametrize("name", registry.names("network"))
@pytest.mark.slow
def test_every_network_without_batch_norms_is_computed_in_eight_bits(name):
    network = build(name, features_per_stage=(8, 8, 8)).eval().requires_grad_(False)
    network.deep_supervision = False
    batch = image("isotropic")
    configuration = make_configuration(patch_size=tuple(batch.shape[2:]))
    ranges = measure_ranges(network, batch.numpy(), configuration)
    if any(isinstance(one, nn.BatchNorm3d) for one in network.modules()):
        assert not ranges
        return
    how = {"engine": "openvino", "device": "cpu", "example": tuple(batch.shape)}
    exact = build_engine(network, precision="fp32", **how).logits(batch).numpy()
    brief = build_engine(network, precision="int8", ranges=ranges, **how).logits(batch).numpy()
    assert 0 < np.abs(brief - exact).mean() < 0.25 * exact.std()


def test_conversion_reports_to_nobody() -> None:
    pytest.importorskip("openvino")
    importlib.import_module("bts_auto.predict.engine_openvino")
    converter = importlib.import_module("openvino.tools.ovc.telemetry_utils")
    assert converter.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
