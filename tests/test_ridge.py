"""Ridge from statistics is scikit-learn's ridge on the data themselves."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit

from scenescope.probes.ridge import Solution, Statistics, cross_validate, solve, squared_error

QUICK = settings(deadline=None, max_examples=40)
PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]
FIELDS = ["count", "x_sum", "y_sum", "xx", "xy", "yy"]
seeds = st.integers(0, 2**32 - 1)


@st.composite
def data(draw):
    """Features [n, C], some of them constant or copies, fewer or more than rows, and targets [n, K]."""
    rows, channels, targets = draw(st.integers(2, 40)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(seeds))
    x = random.normal(draw(st.sampled_from([0, 3])), 1, (rows, channels))
    if draw(st.booleans()):
        x[:, random.integers(channels)] = draw(st.sampled_from([0.0, 0.1, -7.0]))
    if draw(st.booleans()):
        x[:, random.integers(channels)] = x[:, random.integers(channels)]
    y = x @ random.normal(size=(channels, targets)) + random.normal(2, 1, (rows, targets))
    return x, y


@QUICK
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), seeds)
def test_statistics_of_parts_add_up_to_those_of_the_whole_and_subtract_again(sizes, seed):
    random = np.random.default_rng(seed)
    # Whole numbers: no rounding, whichever order they are summed in.
    parts = [(random.integers(-9, 9, (n, 3)), random.integers(-9, 9, (n, 2))) for n in sizes]
    whole = Statistics.of(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    summed = reduce(add, [Statistics.of(*part) for part in parts])
    rest = reduce(add, [Statistics.of(*part) for part in parts[1:]], Statistics.of(parts[0][0][:0], parts[0][1][:0]))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(summed, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(whole - rest, name), getattr(Statistics.of(*parts[0]), name))


def test_half_precision_features_are_summed_in_double():
    x = np.full((5000, 1), 300, np.float16)
    found = Statistics.of(x, x)
    assert found.x_sum[0] == 1_500_000 and found.xx[0, 0] == found.yy[0] == 450_000_000


@QUICK
@given(data(), st.permutations(PENALTIES))
def test_the_solution_is_sklearns_on_the_whole_data_with_a_penalty_for_each_target(sample, penalties):
    x, y = sample
    penalty = np.array(penalties[: y.shape[1]])
    found = solve(Statistics.of(x, y), penalty)
    np.testing.assert_array_equal(found.penalty, penalty)
    for k, alpha in enumerate(penalty):
        theirs = Ridge(alpha=alpha, solver="svd").fit(x, y[:, k])
        np.testing.assert_allclose(found.weight[:, k], theirs.coef_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.intercept[k], theirs.intercept_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.predict(x)[:, k], theirs.predict(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0, 1, -2.5])
def test_features_that_never_change_leave_the_mean(value):
    y = np.random.default_rng(0).normal(size=(9, 2))
    found = solve(Statistics.of(np.full((9, 3), value), y), np.ones(2))
    np.testing.assert_allclose(found.weight, 0, atol=1e-12)
    np.testing.assert_allclose(found.intercept, y.mean(0))


@QUICK
@given(data(), seeds)
def test_the_squared_error_is_that_on_the_data_for_any_solution(sample, seed):
    x, y = sample
    random = np.random.default_rng(seed)
    any_solution = Solution(random.normal(size=(x.shape[1], y.shape[1])), random.normal(size=y.shape[1]), None)
    found = squared_error(Statistics.of(x, y), any_solution)
    np.testing.assert_allclose(found, ((y - any_solution.predict(x)) ** 2).sum(0), rtol=1e-9, atol=1e-9)


def images(seed, count, tokens=5, channels=15):
    """Features and three targets of ``count`` images, in need of ever more penalty; rows of an image resemble it."""
    random = np.random.default_rng(seed)
    own = np.repeat(random.normal(size=(count, channels)), tokens, 0)
    x = 0.7 * own + random.normal(size=own.shape)
    signal = x @ random.normal(size=(channels, 3))
    noise = np.repeat(random.normal(size=(count, 3)), tokens, 0) + random.normal(size=signal.shape)
    return x, signal + noise * np.array([0.1, 4, 100]), np.repeat(np.arange(count), tokens)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count, folds", [(6, 3), (11, 4)])
def test_cross_validation_chooses_as_grid_search_over_groups_of_images(seed, count, folds):
    x, y, image = images(seed, count)
    parts = np.array_split(np.arange(count), folds)
    fold = np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)])[image]
    found = cross_validate([Statistics.of(x[fold == k], y[fold == k]) for k in range(folds)], PENALTIES)
    for k in range(3):
        search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=PredefinedSplit(fold))
        search.fit(x, y[:, k])
        assert found.penalty[k] == search.best_params_["alpha"]
        np.testing.assert_allclose(found.weight[:, k], search.best_estimator_.coef_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.intercept[k], search.best_estimator_.intercept_, rtol=1e-6, atol=1e-6)
    assert found.penalty[0] < found.penalty[2], "equal penalties would not tell targets apart"


def test_cross_validation_agrees_with_group_k_fold_on_the_folds_it_makes():
    x, y, image = images(5, 8)
    cv = GroupKFold(4)
    folds = [Statistics.of(x[held], y[held]) for _, held in cv.split(x, y, image)]
    found = cross_validate(folds, PENALTIES)
    for k in range(3):
        search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=cv)
        assert found.penalty[k] == search.fit(x, y[:, k], groups=image).best_params_["alpha"]
