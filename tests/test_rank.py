"""Least squares on principal components: what scikit-learn makes of them, component by component."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge

from scenescope.probes.rank import Moments, ranks, restricted


def data(seed=0, images=12, tokens=9, channels=7, targets=2, dtype=np.float64):
    """Features [N, T, C], the last channels with less variance and all off zero, and targets [N, T, K]."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(images, tokens, channels)) @ random.normal(size=(channels, channels))
    x = (mixed / np.arange(1, channels + 1) + 3).astype(dtype)
    y = x @ random.normal(size=(channels, targets)) + random.normal(2, 1, (images, tokens, targets))
    return x, y


def flat(x, y):
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


def test_weights_of_every_rank_are_those_of_regression_on_as_many_components():
    x, y = data()
    weights, intercepts = restricted(Moments.of(x, y), list(range(1, 8)))
    rows, values = flat(x, y)
    for r, weight, intercept in zip(range(1, 8), weights, intercepts, strict=True):
        components = PCA(r).fit(rows)
        theirs = LinearRegression().fit(components.transform(rows), values)
        np.testing.assert_allclose(weight, components.components_.T @ theirs.coef_.T, rtol=1e-7, atol=1e-9)
        predicted = theirs.predict(components.transform(rows))
        np.testing.assert_allclose(rows @ weight + intercept, predicted, rtol=1e-7, atol=1e-7)


def test_full_rank_is_ridge_without_a_penalty():
    x, y = data(1)
    weights, intercepts = restricted(Moments.of(x, y), [x.shape[-1]])
    theirs = Ridge(alpha=0, solver="svd").fit(*flat(x, y))
    np.testing.assert_allclose(weights[0], theirs.coef_.T, rtol=1e-7)
    np.testing.assert_allclose(intercepts[0], theirs.intercept_, rtol=1e-7)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12))
def test_the_training_error_never_grows_with_the_rank(seed, images, channels):
    x, y = data(seed, images, channels=channels)
    weights, intercepts = restricted(Moments.of(x, y), ranks(channels))
    errors = np.stack([((y - x @ w - b) ** 2).mean((0, 1)) for w, b in zip(weights, intercepts, strict=True)])
    assert (errors[0] <= y.var((0, 1)) + 1e-12).all()
    assert (np.diff(errors, axis=0) <= 1e-12).all()


def test_directions_without_variance_take_no_part():
    x, y = data(2, channels=4)
    odd = np.concatenate([x, x[..., :1], np.full_like(x[..., :2], 5)], -1)
    (first, last), offsets = restricted(Moments.of(odd, y), [4, 7])
    np.testing.assert_allclose(first, last, atol=1e-9)
    np.testing.assert_allclose(odd @ last + offsets[1], x @ (w := restricted(Moments.of(x, y), [4]))[0][0] + w[1][0])
    still, means = restricted(Moments.of(np.full((3, 4, 2), 7.0), y[:3, :4]), [1, 2])
    assert not still.any()
    np.testing.assert_allclose(means[1], y[:3, :4].mean((0, 1)))


def test_half_precision_features_are_summed_in_double():
    x, y = data(3, images=40, tokens=64, dtype=np.float16)
    found, exact = Moments.of(x, y), Moments.of(x.astype(np.float64), y)
    for name in ("x_mean", "y_mean", "xx", "xy"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.xx / (40 * 64), np.cov(flat(x, y)[0].astype(float), rowvar=False, bias=True))


@pytest.mark.parametrize(
    "channels, expected", [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_ranks_double_up_to_all_channels(channels, expected):
    assert ranks(channels) == expected
