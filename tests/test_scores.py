"""Scores on a layer's grid are those of SciPy and NumPy at image size, ties and degenerate maps included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scenescope import scores
from scenescope.scores import Reference

QUICK = settings(deadline=None, max_examples=60)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def at_image_size(predicted, labels):
    block = labels.shape[-1] // predicted.shape[-1]
    return predicted.repeat(block, 1).repeat(block, 2)


def by_image(score, labels, predicted):
    """A score of flat float64 images, one by one, after upsampling."""
    pairs = zip(labels.astype(np.float64), at_image_size(predicted, labels).astype(np.float64), strict=True)
    return np.array([score(y.ravel(), p.ravel()) for y, p in pairs])


def plain_dice(y, p):
    return 2 * np.sum(y * p) / (y.sum() + p.sum()) if y.any() or p.any() else 1


@st.composite
def labels_and_predictions(draw):
    """Maps [N, H, H] and [N, g, g]: continuous, or of so few levels that most pixels tie or all are equal."""
    count, grid, block = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def maps(size):
        levels = draw(st.sampled_from([None, 1, 2, 5]))
        scale, offset = draw(st.sampled_from([(1, 0), (0.1, 0.3), (1e-6, 0), (40, -700)]))
        shape = (count, size, size)
        values = random.integers(levels, size=shape) if levels else random.normal(size=shape)
        return (values * scale + offset).astype(draw(st.sampled_from([np.float32, np.float64])))

    return maps(grid * block), maps(grid)


@st.composite
def masks(draw):
    count, grid, block = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = grid * block, grid
    return [random.random((count, size, size)) < draw(st.sampled_from([0, 0.1, 0.5, 1])) for size in sizes]


@QUICK
@given(labels_and_predictions())
@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (scores.pearson, lambda y, p: stats.pearsonr(y, p).statistic),
        (scores.spearman, lambda y, p: stats.spearmanr(y, p).statistic),
        (scores.rmse, lambda y, p: np.sqrt(np.mean((y - p) ** 2))),
    ],
    ids=["pearson", "spearman", "rmse"],
)
def test_scores_on_the_grid_equal_scipy_at_image_size(ours, theirs, maps):
    labels, predicted = maps
    found = ours(Reference.from_maps(labels, predicted.shape[-1]), predicted)
    np.testing.assert_allclose(found, by_image(theirs, labels, predicted), **EXACT)


@QUICK
@given(masks())
def test_dice_on_the_grid_equals_dice_at_image_size(maps):
    labels, predicted = maps
    found = scores.dice(Reference.from_maps(labels, predicted.shape[-1]), predicted)
    np.testing.assert_allclose(found, by_image(plain_dice, labels, predicted), **EXACT)


def test_two_empty_masks_agree_and_one_empty_mask_agrees_with_none():
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 2, 2), bool)
    reference = Reference.from_maps(empty, 2)
    assert scores.dice(reference, ~full) == 1
    assert scores.dice(reference, full) == 0


@pytest.mark.parametrize("correlation", [scores.pearson, scores.spearman])
@pytest.mark.parametrize("value", [0, 0.1, -0.3, 1e-9, 1e9])
def test_a_constant_map_has_no_correlation(correlation, value):
    random = np.random.default_rng(0)
    vivid, flat = random.normal(size=(20, 6, 6)), np.full((20, 6, 6), value) * np.linspace(1, 2, 20)[:, None, None]
    assert np.isnan(correlation(Reference.from_maps(flat, 3), vivid[:, :3, :3])).all()
    assert np.isnan(correlation(Reference.from_maps(vivid, 3), flat[:, :3, :3])).all()


def test_a_perfect_prediction_is_off_by_nothing():
    blocks = np.random.default_rng(0).normal(1000, 1, (3, 4, 4))
    labels = blocks.repeat(3, 1).repeat(3, 2)
    assert (scores.rmse(Reference.from_maps(labels, 4), blocks) < 1e-12).all()


@pytest.mark.parametrize("refusing", [scores.block_means, Reference.from_maps])
@pytest.mark.parametrize("size, grid", [(8, 3), (4, 8)])
def test_a_grid_that_does_not_divide_the_map_is_refused(refusing, size, grid):
    with pytest.raises(ValueError, match="does not divide"):
        refusing(np.zeros((1, size, size)), grid)


def test_block_means_keep_rows_and_columns_apart():
    maps = np.arange(16.0).reshape(1, 4, 4)
    assert scores.block_means(maps, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]


def test_saliency_is_scored_by_dice_above_the_threshold_and_the_rest_by_three_scores():
    random = np.random.default_rng(0)
    predicted = random.random((5, 2, 2))
    mask = Reference.from_maps(random.random((5, 4, 4)) > 0.5, 2)
    depth = Reference.from_maps(random.normal(size=(5, 4, 4)), 2)
    found = scores.score("saliency", mask, predicted, threshold=0.3)
    np.testing.assert_array_equal(found.pop("dice"), scores.dice(mask, predicted > 0.3))
    assert not found
    found = scores.score("depth", depth, predicted)
    assert list(found) == ["spearman", "pearson", "rmse"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(scores, name)(depth, predicted))


@settings(QUICK, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 3]))
def test_no_candidate_beats_the_best_threshold(seed, levels):
    random = np.random.default_rng(seed)
    labels = random.random((3, 6, 6)) < 0.4
    predicted = random.integers(levels, size=(3, 3, 3)) / 3 if levels else random.normal(size=(3, 3, 3))
    candidates = np.quantile(predicted, np.arange(1, 100) / 100)

    def mean_dice(threshold):
        return by_image(plain_dice, labels, predicted > threshold).mean()

    best = scores.best_threshold(Reference.from_maps(labels, 3), predicted)
    assert np.isclose(candidates, best, rtol=0, atol=1e-12).any()
    assert mean_dice(best) == pytest.approx(max(map(mean_dice, candidates)), abs=1e-12)


@settings(QUICK, max_examples=15)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_an_interval_covers_the_mean_and_counts_what_is_undefined(values, undefined, seed):
    found = scores.interval(np.array(values + [np.nan] * undefined), seed)
    assert found["undefined"] == undefined
    assert found["value"] == pytest.approx(np.mean(values))
    assert found["low"] - 1e-12 <= found["value"] <= found["high"] + 1e-12


def test_an_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    for level, quantile in [(0.95, 1.96), (0.5, 0.674)]:
        found = scores.interval(values, level=level)
        assert found["high"] - found["low"] == pytest.approx(2 * quantile * values.std() / 20, rel=0.1)


def test_an_interval_depends_on_its_seed_alone():
    values = np.random.default_rng(0).normal(size=30)
    assert scores.interval(values, seed=1) == scores.interval(values, seed=1)
    assert scores.interval(values, seed=1) != scores.interval(values, seed=2)


def test_an_interval_of_nothing_defined_is_nan():
    found = scores.interval(np.full(3, np.nan))
    assert found.pop("undefined") == 3
    assert np.isnan(list(found.values())).all()
    assert list(found) == ["value", "low", "high"]


def test_undefined_scores_of_constant_predictions_reach_the_row_of_intervals():
    random = np.random.default_rng(0)
    predicted = random.normal(size=(4, 2, 2))
    predicted[1] = 0.1
    scored = scores.score("depth", Reference.from_maps(random.normal(size=(4, 4, 4)), 2), predicted)
    row = scores.intervals(scored, resamples=100, seed=3)
    assert row["pearson_undefined"] == row["spearman_undefined"] == 1
    assert row["rmse_undefined"] == 0
    assert row["pearson"] == pytest.approx(np.nanmean(scored["pearson"]))
    assert row["rmse_low"] == scores.interval(scored["rmse"], 3, 100)["low"]
    assert len(row) == 12
