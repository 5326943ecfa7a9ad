"""The map on the embedded model: the numbers that scikit-learn gives on the same activations, kept and stacked."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from sklearn.linear_model import Ridge

from scenescope import diffusion, features, scores
from scenescope.bootstrap import Resamples, summary
from scenescope.labels import references, streamed_scale, taken
from scenescope.probes.map import Split, Task, step_map
from scenescope.probes.table import headline, tabulate
from scenescope.targets import scale_of

STEP, PENALTIES = 5, [0.1, 10.0, 1000.0]
COUNT, TARGETS = 24, ("saliency", "depth", "shading")
ROWS = {"train": np.arange(12), "validation": np.arange(12, 16), "test": np.arange(16, 24)[::-1]}


@pytest.fixture(scope="module")
def model():
    home = str(ROOT / "models" / "tabletop")
    return diffusion.open_model(home, image_size=64, steps=15, guidance=3.0, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(ROOT / "prompts" / "tabletop.csv")[:COUNT]


@pytest.fixture(scope="module")
def latents(model, table):
    return diffusion.initial_noise(table["seed"].tolist(), model.latent_shape) * 3


@pytest.fixture(scope="module")
def activations(model, table, latents):
    """Activations of four layers of the U-Net for 24 latents of noise."""
    layers = [layer for layer in model.layers if layer.name in ("enc1_l1", "enc2_l2", "mid_l1", "dec4_l1")]
    return diffusion.activations(model, latents, STEP, table["prompt"].tolist(), layers)


@pytest.fixture(scope="module")
def labels(latents):
    """Labels of what the network is shown, and noise: no image's labels tell anything of another's."""
    random = np.random.default_rng(0)
    hint = latents[:, :3].movedim(1, -1).numpy().repeat(4, 1).repeat(4, 2)
    maps = hint + random.normal(0, 1, (COUNT, 64, 64, 3))
    return {"saliency": maps[..., 0] > 2, "depth": maps[..., 1], "shading": maps[..., 2]}


@pytest.fixture(scope="module")
def task(labels):
    scale = {target: scale_of(target, values[ROWS["train"]]) for target, values in labels.items()}
    known = {target: references([values], scale[target], {16, 8, 2}) for target, values in labels.items()}
    return Task(known, np.roll(np.arange(COUNT), 1))


SPLIT = Split(np.array_split(ROWS["train"], 3), ROWS["validation"], ROWS["test"])


def in_batches(activations, size):
    def batches(wanted):
        for start in range(0, COUNT, size):
            rows = np.arange(COUNT)[start : start + size]
            yield rows, {name: values[start : start + size] for name, values in activations.items()}

    return batches


@pytest.fixture(scope="module")
def found(activations, task):
    return step_map(in_batches(activations, 7), task, [SPLIT], PENALTIES)


@pytest.mark.parametrize("layer", ["enc1_l1", "enc2_l2", "mid_l1", "dec4_l1"])
def test_scores_are_those_of_sklearns_ridge_on_the_materialised_data(activations, labels, task, found, layer):
    scored, solutions = found
    x = activations[layer].double().numpy()
    grid = round(x.shape[1] ** 0.5)
    for k, target in enumerate(TARGETS):
        truth = task.references[target][grid]
        y = truth.values.reshape(COUNT, -1)
        alpha = scored[f"{layer}/{target}/penalty"]
        theirs = Ridge(alpha=alpha).fit(x[ROWS["train"]].reshape(-1, x.shape[2]), y[ROWS["train"]].ravel())
        maps = theirs.predict(x.reshape(-1, x.shape[2])).reshape(COUNT, grid, grid)
        ours = solutions[layer].predict(activations[layer])[..., k].reshape(COUNT, grid, grid)
        np.testing.assert_allclose(ours, maps, atol=1e-5)  # predictions are float32
        np.testing.assert_allclose(solutions[layer].weight[:, k], theirs.coef_, rtol=1e-6, atol=1e-6)
        checked, tested = (taken(truth, ROWS[name]) for name in ("validation", "test"))
        threshold = scores.best_threshold(checked, maps[ROWS["validation"]]) if target == "saliency" else 0
        for score, values in scores.score(target, tested, maps[ROWS["test"]], threshold).items():
            np.testing.assert_allclose(scored[f"{layer}/{target}/{score}"], values, atol=1e-3)


def test_batches_change_nothing_but_the_last_digits(activations, task, found):
    again, _ = step_map(in_batches(activations, 24), task, [SPLIT], PENALTIES)
    assert again.keys() == found[0].keys()
    for name, values in again.items():
        np.testing.assert_allclose(values, found[0][name], atol=1e-3, err_msg=name)


def test_other_splits_change_nothing_in_the_first_and_give_a_mean_each(activations, task, found):
    other = Split(np.array_split(np.arange(12, 24), 3), np.arange(4), np.arange(4, 12))
    scored, _ = step_map(in_batches(activations, 7), task, [SPLIT, other], PENALTIES)
    alone, _ = step_map(in_batches(activations, 7), task, [other], PENALTIES)
    for name, values in scored.items():
        if name.endswith("/splits"):
            np.testing.assert_allclose(values, [found[0][name][0], alone[name][0]], atol=1e-6)
        else:
            np.testing.assert_allclose(values, found[0][name], atol=1e-6)


def test_labels_dealt_out_to_other_images_cannot_be_read(found):
    scored, _ = found
    for target, score in (("saliency", "dice"), ("depth", "spearman"), ("shading", "spearman")):
        assert scored[f"enc1_l1/{target}/{score}"].mean() > scored[f"enc1_l1/{target}/control"].mean() + 0.1


def test_labels_in_parts_reduce_as_labels_at_once(labels):
    for target, values in labels.items():
        whole = scale_of(target, values)
        parts = streamed_scale(target, np.array_split(values, 5))
        assert (parts.mean, parts.deviation) == pytest.approx((whole.mean, whole.deviation), rel=1e-9)
        for grid, reference in references(np.array_split(values, 5), whole, {16, 2}).items():
            expected = taken(scores.Reference.from_maps(whole(values), grid), np.arange(COUNT))
            for name, of in vars(expected).items():
                np.testing.assert_array_equal(getattr(reference, name), of)


def test_controls_are_the_same_network_without_what_it_learned(model):
    noise = diffusion.initial_noise([1, 2], model.latent_shape)
    layer = [layer for layer in model.layers if layer.name == "dec4_l1"]
    trained = diffusion.activations(model, noise, STEP, ["a red cube"] * 2, layer)["dec4_l1"]
    for control in (features.with_random_weights, features.with_shuffled_weights):
        other = control(model, seed=0)
        assert {k: v.shape for k, v in other.unet.state_dict().items()} == {
            k: v.shape for k, v in model.unet.state_dict().items()
        }
        seen = diffusion.activations(other, noise, STEP, ["a red cube"] * 2, layer)["dec4_l1"]
        assert seen.shape == trained.shape
        assert torch.corrcoef(torch.stack([seen.flatten(), trained.flatten()]))[0, 1].abs() < 0.3
        again = diffusion.activations(control(model, seed=0), noise, STEP, ["a red cube"] * 2, layer)["dec4_l1"]
        assert torch.equal(again, seen)
    shuffled = features.with_shuffled_weights(model, seed=0).unet.conv_in.weight.flatten().sort().values
    assert torch.equal(shuffled, model.unet.conv_in.weight.flatten().sort().values)
    assert model.unet is not other.unet


def test_position_is_the_polynomials_of_row_and_column():
    grid, degree = 5, 3
    found = features.position(grid, degree)
    assert found.shape == (25, 9)
    axis = np.linspace(-1, 1, grid)
    row, column = np.meshgrid(axis, axis, indexing="ij")
    target = (0.3 * row**3 - row * column**2 + 2 * column).reshape(-1)
    fit = np.linalg.lstsq(np.column_stack([found, np.ones(25)]), target, rcond=None)[0]
    np.testing.assert_allclose(np.column_stack([found, np.ones(25)]) @ fit, target, atol=1e-12)
    assert features.position(1).shape == (1, 9)


def test_a_token_of_pixels_is_the_block_below_it():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    tokens = features.pixel_tokens(images, 2)
    assert tokens.shape == (2, 4, 12)
    np.testing.assert_allclose((tokens[1, 1] + 1) * 127.5, images[1, :2, 2:].ravel(), atol=1e-4)
    latents = torch.randn(2, 3, 4, 4)
    assert torch.equal(features.latent_tokens(latents)[1, 6], latents[1, :, 1, 2])


def test_intervals_are_those_of_the_scores_and_differences_are_paired():
    random = np.random.default_rng(0)
    hard = random.normal(0, 1, 200)
    a, b = hard + random.normal(0.5, 0.05, 200), hard + random.normal(0.3, 0.05, 200)
    drawn = Resamples(200, 500, seed=3)
    alone = scores.interval(a, seed=3, resamples=500)
    assert drawn.interval(a) == pytest.approx((alone["value"], alone["low"], alone["high"]))
    _, low, high = summary(a.mean() - b.mean(), drawn.means(a) - drawn.means(b))
    assert 0.15 < low < 0.2 < high < 0.25, "unpaired, hard images would drown the difference"
    a[:50] = np.nan
    assert drawn.interval(a)[0] == pytest.approx(a[50:].mean())
    assert np.isnan(drawn.interval(np.full(200, np.nan))).all()


def test_the_table_has_a_row_a_cell_and_the_headline_is_chosen_on_validation(found):
    scored, _ = found
    named = {f"network/{name}" if name.count("/") == 2 else name: values for name, values in scored.items()}
    for control in ("mean_map/-", "position/-", "latent/-", "pixels/-"):
        named |= {
            f"{control}/{t}/{s}": np.zeros(8) for t, s in zip(TARGETS, ("dice", "spearman", "spearman"), strict=True)
        }
    for net in ("random", "shuffled"):
        named |= {f"{net}/{name}": values for name, values in scored.items()}
    table = tabulate([named, named], resamples=50, seed=0)
    cell = table[(table.features == "network") & (table.layer == "mid_l1") & (table.step == 2)].set_index("target")
    assert cell.loc["depth", "score"] == pytest.approx(np.nanmean(scored["mid_l1/depth/spearman"]))
    assert cell.loc["depth", "above_mean_map"] == pytest.approx(cell.loc["depth", "score"])
    assert cell.loc["depth", "above_random"] == 0
    assert cell.loc["saliency", "selectivity"] == pytest.approx(
        scored["mid_l1/saliency/dice"].mean() - scored["mid_l1/saliency/control"].mean()
    )
    best = headline(table)["depth"]["best"]
    by_validation = {
        layer: scored[f"{layer}/depth/validation"] for layer in ("enc1_l1", "enc2_l2", "mid_l1", "dec4_l1")
    }
    assert best["layer"] == max(by_validation, key=by_validation.get)
    assert best["score"] == pytest.approx(np.nanmean(scored[f"{best['layer']}/depth/spearman"]))
