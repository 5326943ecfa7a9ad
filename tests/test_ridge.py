"""Ridge from streamed statistics is scikit-learn's ridge on the data themselves, chosen as its grid search chooses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit

from scenescope.probes.ridge import Statistics, cross_validate, solve, squared_error

QUICK = settings(deadline=None, max_examples=40)
PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]
seeds = st.integers(0, 2**32 - 1)


def statistics(x, y, group=None, origin=None, batch=3):
    """Statistics of images x [N, T, C] and y [N, T, K], added a few images at a time; ``group`` [N] numbers from 0."""
    group = np.zeros(len(x), int) if group is None else group
    member = torch.from_numpy(group[:, None] == np.arange(group.max() + 1))
    start = torch.zeros(x.shape[-1], dtype=torch.float64) if origin is None else torch.from_numpy(origin)
    summed = Statistics.empty(start, member.shape[1], y.shape[-1])
    for i in range(0, len(x), batch):
        summed.add(torch.from_numpy(x[i : i + batch]), torch.from_numpy(y[i : i + batch]), member[i : i + batch])
    return summed


@st.composite
def data(draw):
    """Features [N, T, C], some of them constant or copies, fewer or more than rows, and targets [N, T, K]."""
    count, tokens = draw(st.integers(1, 6)), draw(st.integers(2, 6))
    channels, targets = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(seeds))
    x = random.normal(draw(st.sampled_from([0, 3, 1000])), 1, (count, tokens, channels))
    if draw(st.booleans()):
        x[..., random.integers(channels)] = draw(st.sampled_from([0.0, 0.1, -7.0]))
    if draw(st.booleans()):
        x[..., random.integers(channels)] = x[..., random.integers(channels)]
    y = (x - x.mean()) @ random.normal(size=(channels, targets)) + random.normal(2, 1, (count, tokens, targets))
    return x, y


def rows(values):
    return values.reshape(-1, values.shape[-1])


@QUICK
@given(data(), st.sampled_from(PENALTIES), st.booleans())
def test_the_solution_is_sklearns_on_the_whole_data_wherever_features_are_counted_from(sample, penalty, centred):
    x, y = sample
    summed = statistics(x, y, origin=x.mean((0, 1)) if centred else None)
    weights, intercepts = solve(summed, torch.tensor([penalty], dtype=torch.float64))
    # Counted from 0, features with a large mean lose digits, which is why statistics have an origin.
    close = {"rtol": 1e-6, "atol": 1e-6} if centred or abs(x.mean()) < 100 else {"rtol": 1e-3, "atol": 1e-3}
    for k in range(y.shape[-1]):
        theirs = Ridge(alpha=penalty, solver="svd").fit(rows(x), rows(y)[:, k])
        ours = rows(x) @ weights[0, 0, :, k].numpy() + intercepts[0, 0, k].item()
        np.testing.assert_allclose(ours, theirs.predict(rows(x)), **close)
        if centred:
            np.testing.assert_allclose(weights[0, 0, :, k], theirs.coef_, **close)


def test_half_precision_features_are_summed_in_double():
    x = np.full((5, 1000, 1), 300, np.float16)
    found = statistics(x, x)
    assert found.x.item() == 1_500_000 and found.xx.item() == found.yy.item() == 450_000_000


def test_an_image_counts_in_every_group_that_it_belongs_to():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(7, 4, 3)), random.normal(size=(7, 4, 2))
    member = torch.from_numpy(random.random((7, 5)) < 0.4)
    summed = Statistics.empty(torch.zeros(3, dtype=torch.float64), 5, 2)
    summed.add(torch.from_numpy(x), torch.from_numpy(y), member)
    for group in range(5):
        inside = member[:, group].numpy()
        alone = statistics(x[inside], y[inside]) if inside.any() else Statistics.empty(torch.zeros(3), 1, 2)
        for name in ("count", "x", "y", "xx", "xy", "yy"):
            np.testing.assert_allclose(getattr(summed, name)[group], getattr(alone, name)[0], atol=1e-12)


def test_what_is_left_without_a_group_is_the_others_together():
    random = np.random.default_rng(1)
    # Whole numbers: no rounding, whichever order they are summed in.
    x, y = random.integers(-9, 9, (6, 4, 3)).astype(float), random.integers(-9, 9, (6, 4, 2)).astype(float)
    group = np.array([0, 1, 2, 0, 1, 2])
    left = statistics(x, y, group).without()
    for held in range(4):  # the last is without nothing
        alone = statistics(x[group != held], y[group != held])
        for name in ("count", "x", "y", "xx", "xy", "yy"):
            np.testing.assert_array_equal(getattr(left, name)[held], getattr(alone, name)[0])


@pytest.mark.parametrize("value", [0, 1, -2.5])
def test_features_that_never_change_leave_the_mean(value):
    y = np.random.default_rng(0).normal(size=(3, 3, 2))
    weights, intercepts = solve(statistics(np.full((3, 3, 3), value), y), torch.ones(1, dtype=torch.float64))
    np.testing.assert_allclose(weights, 0, atol=1e-12)
    np.testing.assert_allclose(intercepts[0, 0], rows(y).mean(0))


@QUICK
@given(data(), seeds)
def test_the_squared_error_is_that_on_the_data_for_any_solution(sample, seed):
    x, y = sample
    random = np.random.default_rng(seed)
    weight, intercept = random.normal(size=(x.shape[-1], y.shape[-1])), random.normal(size=y.shape[-1])
    found = squared_error(
        statistics(x, y, origin=x.mean((0, 1))),
        torch.from_numpy(weight)[None, None],
        torch.from_numpy(intercept)[None, None],
    )
    np.testing.assert_allclose(found[0, 0], ((rows(y) - rows(x) @ weight - intercept) ** 2).mean(0), rtol=1e-7)


def images(seed, count, tokens=5, channels=15):
    """Features and three targets of ``count`` images, in need of ever more penalty; rows of an image resemble it."""
    random = np.random.default_rng(seed)
    x = 0.7 * random.normal(size=(count, 1, channels)) + random.normal(size=(count, tokens, channels))
    signal = x @ random.normal(size=(channels, 3))
    noise = random.normal(size=(count, 1, 3)) + random.normal(size=signal.shape)
    return x, signal + noise * np.array([0.1, 4, 100])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count, folds", [(6, 3), (11, 4)])
def test_cross_validation_chooses_as_grid_search_over_groups_of_images(seed, count, folds):
    x, y = images(seed, count)
    fold = np.concatenate([np.full(len(part), k) for k, part in enumerate(np.array_split(np.arange(count), folds))])
    found = cross_validate(statistics(x, y, fold), PENALTIES)
    cv = PredefinedSplit(np.repeat(fold, x.shape[1]))
    for k in range(3):
        search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=cv)
        search.fit(rows(x), rows(y)[:, k])
        assert found.penalty[k] == search.best_params_["alpha"]
        np.testing.assert_allclose(found.weight[:, k], search.best_estimator_.coef_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.intercept[k], search.best_estimator_.intercept_, rtol=1e-6, atol=1e-6)
    assert found.penalty[0] < found.penalty[2], "equal penalties would not tell targets apart"


def test_cross_validation_agrees_with_group_k_fold_on_the_folds_it_makes():
    x, y = images(5, 8)
    image = np.repeat(np.arange(8), x.shape[1])
    cv, fold = GroupKFold(4), np.zeros(8, int)
    for k, (_, held) in enumerate(cv.split(rows(x), rows(y), image)):
        fold[image[held]] = k
    found = cross_validate(statistics(x, y, fold), PENALTIES)
    for k in range(3):
        search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=cv)
        assert found.penalty[k] == search.fit(rows(x), rows(y)[:, k], groups=image).best_params_["alpha"]
