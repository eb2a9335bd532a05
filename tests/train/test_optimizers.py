"""Every registered optimiser: it descends, obeys its options and refuses bad ones."""

from __future__ import annotations

import pytest
import torch

from bts_auto import registry
from bts_auto.errors import PlanError

NAMES = registry.names("optimizer")


def make(name: str, parameters, **options) -> torch.optim.Optimizer:
    return registry.component("optimizer", name)(registry.options("optimizer", name, options), parameters)


@pytest.mark.parametrize("name", NAMES)
def test_it_descends(name: str) -> None:
    point = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = make(name, [point], lr=0.005)
    for _ in range(50):
        optimizer.zero_grad()
        (point**2).sum().backward()
        optimizer.step()
    assert (point**2).sum() < 12.9


def test_sgd_is_torch_s_with_nnunet_s_settings() -> None:
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    pair = (
        (mine, make("sgd", [mine])),
        (theirs, torch.optim.SGD([theirs], lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)),
    )
    for _ in range(5):
        for point, optimizer in pair:
            optimizer.zero_grad()
            (point**4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("sgd", {"lr": 0}, "lr"),
        ("sgd", {"momentum": 1.0}, "momentum"),
        ("sgd", {"momentum": 0}, "nesterov"),
        ("adam", {"betas": (0.9, 1.0)}, "betas"),
        ("adamw", {"weight_decay": -1}, "weight_decay"),
        ("adamw", {"beta": 0.9}, "did you mean 'betas'"),
    ],
)
def test_bad_options_are_refused_by_name(name: str, options: dict, named: str) -> None:
    with pytest.raises(PlanError, match=named):
        registry.options("optimizer", name, options)
