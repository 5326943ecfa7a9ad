"""The training loop resumes to the same weights."""

import pytest
import torch
from torch import nn

from scenescope.tabletop import training


class Stop(Exception):
    pass


def loss_of(model, step):
    x = torch.randn(16, 3)
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def fit(folder, loss=loss_of):
    torch.manual_seed(0)
    return training.fit(
        nn.Linear(3, 1),
        loss,
        steps=60,
        learning_rate=0.05,
        seed=1,
        checkpoint=folder / "checkpoint.pt",
        curve=folder / "curve.csv",
        warmup=5,
        average=0.9,
    )


def test_a_killed_run_resumes_to_the_same_weights_and_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 20)
    whole = fit(tmp_path / "whole")

    def dies(model, step):
        if step == 47:
            raise Stop
        return loss_of(model, step)

    with pytest.raises(Stop):
        fit(tmp_path / "cut", dies)
    seen = []
    resumed = fit(tmp_path / "cut", lambda model, step: seen.append(step) or loss_of(model, step))
    assert seen == list(range(40, 60))
    assert torch.equal(whole.weight, resumed.weight)
    assert (tmp_path / "whole/curve.csv").read_text() == (tmp_path / "cut/curve.csv").read_text()


def test_it_learns_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 20)
    model = fit(tmp_path)
    assert torch.allclose(model.weight, torch.ones(1, 3), atol=0.2)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "curve.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.1 * losses[0]
