"""Muon's rule, against the decomposition that it stands for and against AdamW, whose scale it keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scenescope.tabletop.muon import Muon, orthogonal


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_singular_values_come_close_to_one_and_singular_vectors_stay(rows, columns, seed):
    torch.manual_seed(seed)
    least = min(rows, columns)
    u, v = (torch.linalg.qr(torch.randn(n, least, dtype=torch.float64)).Q for n in (rows, columns))
    values = torch.empty(least, dtype=torch.float64).uniform_(0.2, 1)
    found = u.T @ orthogonal(u @ torch.diag(values) @ v.T) @ v
    assert ((found.diagonal() > 0.65) & (found.diagonal() < 1.25)).all()
    assert (found - torch.diag(found.diagonal())).abs().max() < 1e-6


def test_what_is_no_matrix_takes_adamws_steps():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 32, 3), nn.GroupNorm(4, 32), nn.Conv2d(32, 4, 3))  # as conv_in and conv_out
    theirs = nn.Sequential(nn.Conv2d(4, 32, 3), nn.GroupNorm(4, 32), nn.Conv2d(32, 4, 3))
    theirs.load_state_dict(network.state_dict())
    rules = [
        Muon(network, lr=0.01, weight_decay=0.1),
        torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    ]
    for step in range(5):
        for net, rule in zip((network, theirs), rules, strict=True):
            torch.manual_seed(step)
            net(torch.randn(2, 4, 8, 8)).square().mean().backward()
            rule.step()
            rule.zero_grad()
    for mine, other in zip(network.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("layer", [nn.Linear(32, 64), nn.Conv2d(32, 64, 3)])
def test_a_matrixs_updates_are_as_large_as_adamws(layer):
    rule = Muon(layer, lr=1.0, weight_decay=0.0)
    before = layer.weight.detach().clone()
    torch.manual_seed(0)
    layer.weight.grad = torch.randn_like(layer.weight)
    rule.step()
    assert (layer.weight - before).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.25)
