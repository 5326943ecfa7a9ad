"""The probe fitted on its layer's grid is the paper's probe, fitted at image size."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import nn

from scenescope.probes import linear

TARGETS = ["saliency", "depth"]
SIZES = pytest.mark.parametrize("grid, block", [(1, 4), (3, 4), (4, 1), (2, 8)])


def labels_of(target, count, size, seed=0):
    """Labels [N, H, H] that straddle the knee of Huber's loss."""
    random = np.random.default_rng(seed)
    values = random.normal(0, 1.5, (count, size, size)).astype(np.float32)
    return values > 0.4 if target == "saliency" else values


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loss_at_image_size(target, outputs, labels):
    """The paper's loss: outputs [B, T, K] to maps, nearest-neighbour upsampling, and a mean over all pixels."""
    count, tokens, channels = outputs.shape
    grid = round(tokens**0.5)
    maps = outputs.transpose(1, 2).reshape(count, channels, grid, grid)
    upsampled = F.interpolate(maps, size=labels.shape[-2:], mode="nearest")
    if target == "saliency":
        return F.cross_entropy(upsampled, torch.from_numpy(labels).long())
    return F.huber_loss(upsampled[:, 0], torch.from_numpy(labels).to(outputs.dtype))


@SIZES
@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_on_the_grid_equals_the_loss_at_image_size_in_value_and_gradient(target, grid, block):
    labels = labels_of(target, 3, grid * block)
    predicted = normal(2, 3, grid**2, linear.OUTPUTS[target], dtype=torch.float64).mul(2).requires_grad_()
    ours = linear.loss(target, predicted, linear.token_labels(target, labels, grid).double())
    theirs = torch.stack([loss_at_image_size(target, step, labels) for step in predicted])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(losses.sum(), predicted)[0] for losses in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def best_of(curve):
    return int(np.argmin(curve))


def plain_fit(target, activations, labels, held_out, epochs, batch_size, learning_rate, seed):
    """One probe as a textbook fits it at image size, from the initial weights and image order of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    channels, outputs = activations.shape[-1], linear.OUTPUTS[target]
    start = (2 * torch.rand(channels + 1, outputs, generator=generator) - 1) / channels**0.5
    probe = nn.Linear(channels, outputs, bias=target != "saliency")
    with torch.no_grad():
        probe.weight.copy_(start[:-1].T)
        if probe.bias is not None:
            probe.bias.copy_(start[-1])
    optimizer = torch.optim.Adam(probe.parameters(), lr=learning_rate)
    train, validation, weights = [], [], []
    for _ in range(epochs):
        total = 0
        for rows in torch.randperm(len(labels), generator=generator).split(batch_size):
            loss = loss_at_image_size(target, probe(activations[rows].float()), labels[rows.numpy()])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        train.append(total / len(labels))
        with torch.no_grad():
            validation.append(loss_at_image_size(target, probe(held_out[0].float()), held_out[1]).item())
        weights.append([p.detach().clone() for p in probe.parameters()])
    return train, validation, weights[best_of(validation)]


def problem(target, steps, count=10, grid=3, block=2, channels=5, seed=0):
    """Activations [S, N, T, C] in half precision, as captured, and labels."""
    activations = normal(steps, count, grid**2, channels, seed=seed).half()
    return activations, labels_of(target, count, grid * block, seed)


def fit(target, activations, labels, held_out, **options):
    grid = round(activations.shape[2] ** 0.5)
    truth, checked = (linear.token_labels(target, maps, grid) for maps in (labels, held_out[1]))
    options = {"epochs": 4, "batch_size": 4, "learning_rate": 0.1, "seed": 0, **options}
    return linear.fit(target, activations, truth, (held_out[0], checked), **options)


@pytest.mark.parametrize("target", TARGETS)
def test_each_step_is_fitted_as_a_plain_loop_at_image_size_would(target):
    activations, labels = problem(target, steps=3)
    held_out = problem(target, steps=3, count=4, seed=1)
    options = {"epochs": 4, "batch_size": 4, "learning_rate": 0.1, "seed": 7}
    fitted = fit(target, activations, labels, held_out, **options)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for step in range(3):
        checked = held_out[0][step], held_out[1]
        train, validation, kept = plain_fit(target, activations[step], labels, checked, **options)
        np.testing.assert_allclose(fitted.train_loss[:, step], train, **close)
        np.testing.assert_allclose(fitted.validation_loss[:, step], validation, **close)
        torch.testing.assert_close(fitted.weight[step], kept[0].T, **close)
        if target != "saliency":
            torch.testing.assert_close(fitted.bias[step, 0], kept[1], **close)


@pytest.mark.parametrize("target", TARGETS)
def test_a_probe_is_the_same_whichever_steps_are_fitted_beside_it(target):
    activations, labels = problem(target, steps=4)
    held_out = problem(target, steps=4, count=4, seed=1)
    together = fit(target, activations, labels, held_out)
    for chosen in ([2], [3, 1]):
        apart = fit(target, activations[chosen], labels, (held_out[0][chosen], held_out[1]))
        for name in ("weight", "bias"):
            ours, theirs = getattr(apart, name), getattr(together, name)[chosen]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(apart.validation_loss, together.validation_loss[:, chosen], rtol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_other_weights(target):
    activations, labels = problem(target, steps=2)
    first, again, other = (fit(target, activations, labels, (activations, labels), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
    assert not torch.allclose(first.weight, other.weight)


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_weights_are_those_of_the_epoch_with_the_lowest_validation_loss(target):
    activations, labels = problem(target, steps=4, count=6, grid=2, channels=20)
    held_out = problem(target, steps=4, count=6, grid=2, channels=20, seed=1)
    fitted = fit(target, activations, labels, held_out, epochs=12, learning_rate=0.2)
    best = fitted.validation_loss.argmin(0)
    assert len(set(best)) > 2, "an easy problem would not tell"
    outputs = linear.predict(held_out[0], fitted.weight, fitted.bias)
    kept = linear.loss(target, outputs, linear.token_labels(target, held_out[1], 2))
    np.testing.assert_allclose(kept, fitted.validation_loss.min(0), rtol=1e-5)


def test_validation_images_do_not_move_the_weights():
    activations, labels = problem("depth", steps=2)
    losses = [
        fit("depth", activations, labels, problem("depth", steps=2, count=5, seed=seed)).train_loss for seed in (1, 2)
    ]
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize("target", TARGETS)
def test_initial_weights_are_drawn_as_torch_draws_those_of_a_linear_layer(target):
    activations, labels = problem(target, steps=1, channels=400)
    fitted = fit(target, activations, labels, (activations, labels), epochs=1, learning_rate=0.0)
    assert fitted.weight.abs().max() <= 1 / 20
    assert fitted.weight.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)
    assert abs(fitted.weight.mean()) < 0.005


def planted(target, count, seed=0):
    """Activations [1, N, T, C] and the labels that a linear map of them gives."""
    activations = normal(1, count, 16, 6, seed=seed)
    values = activations[0] @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5, -1.0]) + (0.7 if target == "depth" else 0)
    maps = values.reshape(count, 4, 4).numpy().repeat(2, 1).repeat(2, 2)
    return activations, maps > 0 if target == "saliency" else maps


def test_a_planted_value_is_recovered_weight_by_weight():
    fitted = fit("depth", *planted("depth", 40), planted("depth", 10, seed=1), epochs=40, batch_size=8)
    torch.testing.assert_close(
        fitted.weight[0, :, 0], torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5, -1.0]), rtol=0, atol=0.02
    )
    assert fitted.bias.item() == pytest.approx(0.7, abs=0.02)


def test_a_planted_mask_is_recovered_pixel_by_pixel_without_a_bias():
    fitted = fit("saliency", *planted("saliency", 40), planted("saliency", 10, seed=1), epochs=40, batch_size=8)
    activations, masks = planted("saliency", 20, seed=2)
    outputs = linear.predict(activations, fitted.weight, fitted.bias)
    found = linear.to_maps("saliency", outputs)[0] > 0.5
    assert (found.repeat(2, 1).repeat(2, 2) == masks).mean() > 0.98
    assert fitted.bias.shape == (1, 1, 2) and not fitted.bias.any()


def optimum(target, activations, labels, held_out=None):
    grid = round(activations.shape[2] ** 0.5)
    held_out = held_out or (activations, labels)
    truth, checked = (linear.token_labels(target, maps, grid) for maps in (labels, held_out[1]))
    return linear.optimum(target, activations, truth, (held_out[0], checked))


def objective(target, activations, labels, weight, bias):
    truth = linear.token_labels(target, labels, round(activations.shape[1] ** 0.5))
    return linear.objective(target, activations, truth, torch.cat([weight, bias]).double())


@SIZES
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("chunk", [1, 2**24])
def test_the_objective_is_the_loss_at_image_size_whatever_it_is_summed_over(target, grid, block, chunk, monkeypatch):
    monkeypatch.setattr(linear, "CHUNK", chunk)
    activations, labels = problem(target, steps=1, grid=grid, block=block)
    coefficients = normal(6, linear.OUTPUTS[target], seed=1, dtype=torch.float64).requires_grad_()
    value, gradient = linear.objective(
        target, activations[0], linear.token_labels(target, labels, grid), coefficients.detach()
    )
    theirs = loss_at_image_size(target, activations[0].double() @ coefficients[:-1] + coefficients[-1], labels)
    assert value == pytest.approx(theirs.item(), rel=1e-12)
    torch.testing.assert_close(gradient, *torch.autograd.grad(theirs, coefficients), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_left_to_gain_at_the_optimum(target):
    activations, labels = problem(target, steps=3, channels=12)
    found = optimum(target, activations, labels)
    adam = fit(target, activations, labels, (activations, labels), epochs=30)
    for step in range(3):
        value, gradient = objective(target, activations[step], labels, found.weight[step], found.bias[step])
        gradient = gradient if target != "saliency" else gradient[:-1]  # it has no bias to move
        assert gradient.abs().max() < 1e-6, "weights are float32"
        assert value == pytest.approx(found.train_loss[-1, step], abs=1e-10)
        assert value < objective(target, activations[step], labels, adam.weight[step], adam.bias[step])[0]
        assert (np.diff(found.train_loss[:, step]) <= 0).all()


def test_the_optimum_of_a_mask_is_sklearns_logistic_regression_on_all_pixels():
    activations, labels = problem("saliency", steps=1, count=20)
    found = optimum("saliency", activations, labels)
    blocks = linear.pixel_blocks(labels, 3)  # [N, T, P]
    pixels = np.repeat(activations[0].numpy().reshape(-1, 5), blocks.shape[-1], 0)
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(pixels, blocks.ravel() > 0.5)
    weight = found.weight[0].numpy()
    np.testing.assert_allclose(weight[:, 1] - weight[:, 0], theirs.coef_[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weight.sum(1), 0, atol=1e-7, err_msg="what both outputs share is nobody's")
    assert found.bias.shape == (1, 1, 2) and not found.bias.any()


def test_the_optimum_of_a_value_is_scipys_minimum_of_hubers_loss_at_image_size():
    activations, labels = problem("depth", steps=1, count=20)
    found = optimum("depth", activations, labels)

    def at_image_size(coefficients):
        coefficients = torch.tensor(coefficients).requires_grad_()
        outputs = activations[0].double() @ coefficients[:-1, None] + coefficients[-1]
        value = loss_at_image_size("depth", outputs, labels)
        return value.item(), torch.autograd.grad(value, coefficients)[0].numpy()

    theirs = minimize(at_image_size, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-9})
    ours = torch.cat([found.weight[0], found.bias[0]])[:, 0].numpy()
    np.testing.assert_allclose(ours, theirs.x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_an_optimum_is_the_same_whichever_steps_are_fitted_beside_it(target):
    activations, labels = problem(target, steps=4)
    held_out = problem(target, steps=4, count=4, seed=1)
    together = optimum(target, activations, labels, held_out)
    for chosen in ([2], [3, 1]):
        apart = optimum(target, activations[chosen], labels, (held_out[0][chosen], held_out[1]))
        assert torch.equal(apart.weight, together.weight[chosen]) and torch.equal(apart.bias, together.bias[chosen])
        for name in ("train_loss", "validation_loss"):
            short, long = getattr(apart, name), getattr(together, name)[:, chosen]
            np.testing.assert_array_equal(short, long[: len(short)])
            assert (long[len(short) :] == short[-1]).all()


@pytest.mark.parametrize("target", TARGETS)
def test_curves_of_an_optimum_begin_with_zero_weights_and_end_with_the_probe(target):
    activations, labels = problem(target, steps=2)
    held_out = problem(target, steps=2, count=4, seed=1)
    found = optimum(target, activations, labels, held_out)
    for step in range(2):
        ends = [(0 * found.weight[step], 0 * found.bias[step]), (found.weight[step], found.bias[step])]
        for row, (weight, bias) in zip((0, -1), ends, strict=True):
            for maps, inputs, curve in (
                (labels, activations, found.train_loss),
                (held_out[1], held_out[0], found.validation_loss),
            ):
                value = objective(target, inputs[step], maps, weight, bias)[0]
                assert curve[row, step] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_channels_that_are_dead_copied_or_huge_do_not_keep_from_the_optimum(target):
    activations, labels = problem(target, steps=1, count=20, channels=8)
    plain = optimum(target, activations, labels).train_loss[-1, 0]
    odd = torch.cat([activations, activations[..., :2], torch.zeros_like(activations[..., :1])], -1)
    odd[..., 2] *= 1024  # a power of two: no rounding
    odd[..., 3] /= 1024
    found = optimum(target, odd, labels)
    assert found.train_loss[-1, 0] == pytest.approx(plain, abs=2e-6), "small halves lose digits"
    assert not found.weight[0, -1].any()


def test_a_mask_that_a_hyperplane_cuts_out_ends_with_next_to_no_loss_and_finite_weights():
    found = optimum("saliency", *planted("saliency", 40))
    assert found.train_loss[-1, 0] < 1e-6
    assert found.weight.isfinite().all()
    activations, masks = planted("saliency", 20, seed=2)
    maps = linear.to_maps("saliency", linear.predict(activations, found.weight, found.bias))[0] > 0.5
    assert (maps.repeat(2, 1).repeat(2, 2) == masks).mean() > 0.98


def test_maps_show_the_foregrounds_probability_or_the_value_row_by_row():
    outputs = normal(2, 3, 9, 2)
    maps = linear.to_maps("saliency", outputs)
    assert maps.shape == (2, 3, 3, 3)
    assert maps[1, 2, 0, 2] == pytest.approx(torch.sigmoid(outputs[1, 2, 2, 1] - outputs[1, 2, 2, 0]).item())
    values = linear.to_maps("depth", outputs[..., :1])
    assert values[0, 1].tolist() == outputs[0, 1, :, 0].reshape(3, 3).tolist()


def test_a_token_meets_the_pixels_below_it():
    labels = np.arange(16).reshape(1, 4, 4)
    assert linear.pixel_blocks(labels, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
