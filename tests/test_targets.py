"""Labels as probes learn them, and the control that knows positions only."""

import numpy as np
import pytest

from scenescope.targets import Scale, mean_map, scale_of


@pytest.mark.parametrize("target", ["depth", "shading"])
def test_a_scale_standardises_the_labels_it_was_taken_from(target):
    labels = np.random.default_rng(0).normal(15.7, 9.3, (4, 8, 8)).astype(np.float32)
    scaled = scale_of(target, labels)(labels)
    assert scaled.dtype == np.float32
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std() == pytest.approx(1, abs=1e-5)


def test_a_scale_from_training_images_moves_others_by_the_same_numbers():
    assert Scale(mean=2, deviation=4)(np.array([2, 6, 10])).tolist() == [0, 1, 2]
    scale = scale_of("depth", np.array([[[0.0, 4.0], [0.0, 4.0]]]))
    assert (scale.mean, scale.deviation) == (2, 2)


def test_a_mask_keeps_its_own_scale():
    mask = np.array([[[True, False], [False, False]]])
    assert scale_of("saliency", mask)(mask).tolist() == mask.astype(float).tolist()


def test_constant_labels_are_scaled_without_division_by_nothing():
    labels = np.full((2, 4, 4), 3.0)
    assert not scale_of("depth", labels)(labels).any()


def blocky(values):
    return np.asarray(values).repeat(2, 1).repeat(2, 2)


@pytest.mark.parametrize("target, names", [("saliency", ["dice"]), ("depth", ["spearman", "pearson"])])
def test_the_mean_map_of_identical_labels_is_the_label(target, names):
    random = np.random.default_rng(0)
    label = blocky(random.random((1, 3, 3)) < 0.5 if target == "saliency" else random.normal(size=(1, 3, 3)))
    train, validation, test = (label.repeat(count, 0) for count in (5, 2, 3))
    found = mean_map(target, train, validation, test, 3)
    for name in names:
        np.testing.assert_allclose(found[name], np.ones(3))
    if target == "depth":
        np.testing.assert_allclose(found["rmse"], np.zeros(3), atol=1e-12)


def test_the_mean_map_is_the_mean_of_training_labels_alone():
    ramp = np.arange(9.0).reshape(1, 3, 3)
    train = blocky(np.concatenate([2 * ramp, np.zeros((1, 3, 3))]))
    found = mean_map("depth", train, blocky(-ramp), blocky(ramp + 1), 3)
    assert found["rmse"] == pytest.approx(1)


def test_the_threshold_of_the_mean_map_is_chosen_on_validation_labels():
    often, once = np.array([[[1, 0], [0, 0]]], bool), np.array([[[1, 1], [0, 0]]], bool)
    train = blocky(np.concatenate([often, often, often, once]))
    narrow = mean_map("saliency", train, blocky(often), blocky(once), 2)
    wide = mean_map("saliency", train, blocky(once), blocky(once), 2)
    assert narrow["dice"] == pytest.approx(2 / 3)
    assert wide["dice"] == pytest.approx(1)
