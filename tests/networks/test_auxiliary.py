"""Branches for further tasks on the features of an encoder."""

from __future__ import annotations

import pytest
import torch

from bts_auto.networks.auxiliary import PresenceClassifier, Reconstruction

CASES = [(2, (8, 12)), (3, (8, 12, 16))]


def reconstruction(dims: int) -> Reconstruction:
    strides = [(1,) * dims, (2,) * dims, (1,) * (dims - 1) + (2,)]
    made = Reconstruction(dims, (6, 8, 10), strides, 4, hidden=12, latent=5)
    made.initialise(torch.Generator().manual_seed(0))
    return made


def features(size: tuple[int, ...]) -> torch.Tensor:
    """Of the third stage, whose last axis was halved twice and the others once, rounded up."""
    below = [-(-edge // 2) for edge in size]
    below[-1] = -(-below[-1] // 2)
    return torch.randn(2, 10, *below, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dims", "size"), [*CASES, (3, (7, 11, 13))])
def test_an_image_of_the_wanted_size_comes_out(dims, size):
    image, mean, log_variance = reconstruction(dims)(features(size), size)
    assert image.shape == (2, 4, *size)
    assert mean.shape == log_variance.shape == (2, 5, *features(size).shape[2:])


def test_the_latent_is_drawn_in_training_only():
    made, size = reconstruction(2), (8, 12)
    first, second = (made(features(size), size)[0] for _ in range(2))
    assert not torch.equal(first, second)
    made.eval()
    first, second = (made(features(size), size)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("dims", "size"), CASES)
def test_every_weight_of_both_branches_learns(dims, size):
    made, classifier = reconstruction(dims), PresenceClassifier(10, (2,) * dims, channels=(6, 4), hidden=8)
    x = features(size)
    image, mean, log_variance = made(x, size)
    (image.square().mean() + mean.square().mean() + log_variance.square().mean()).backward()
    classifier(x).square().sum().backward()
    for module in (made, classifier):
        assert all(p.grad is not None for p in module.parameters())


def test_a_patch_of_another_size_is_pooled_to_the_planned_grid():
    classifier = PresenceClassifier(10, (4, 4, 4), channels=(6,), hidden=8)
    assert classifier(torch.randn(2, 10, 2, 3, 5)).shape == (2, 2)


def test_the_same_seed_draws_the_same_weights():
    one, other = (PresenceClassifier(10, (2, 2)) for _ in range(2))
    for classifier in (one, other):
        classifier.initialise(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
