"""The tabletop world: what a renderer of truth promises."""

import numpy as np
import pytest

from scenescope import targets
from scenescope.scores import Reference, spearman
from scenescope.tabletop.dataset import rendered, scenes_for
from scenescope.tabletop.render import render
from scenescope.tabletop.scenes import COLOURS, SHAPES, Words, all_words, held_out, sample_scene

WORDS = [Words(shape, colour, "marble", "plain", "large") for shape in SHAPES for colour in COLOURS]


@pytest.fixture(scope="module")
def scenes():
    return scenes_for(500, 300, keep_held_out=True)


@pytest.fixture(scope="module")
def renders(scenes):
    return render(scenes, 64)


def test_same_seed_same_bytes_whatever_is_rendered_beside_it(scenes, renders):
    again = render(scenes[7:40:3], 64)
    for name, value in vars(again).items():
        assert np.array_equal(value, getattr(renders, name)[7:40:3]), name
    assert not np.array_equal(render([sample_scene(3)], 64).image, render([sample_scene(4)], 64).image)


def test_image_is_albedo_times_shading(renders):
    product = 255 * renders.albedo.astype(np.float64) * renders.shading[..., None]
    assert np.abs(product - renders.image).max() <= 0.51
    assert renders.shading.min() > 0
    assert renders.shading.max() <= 1
    assert renders.albedo.min() >= 0
    assert renders.albedo.max() <= 1


def test_every_scene_has_a_large_object_nearer_than_what_is_around_it(renders):
    area = renders.mask.mean((1, 2))
    assert area.min() > 0.05
    assert area.mean() > 0.15
    # Where the outline of the object is crossed, inverse depth falls in all but touching pixels.
    inside, outside = renders.mask[:, :, :-1], renders.mask[:, :, 1:]
    step = renders.depth[:, :, 1:] - renders.depth[:, :, :-1]
    leaving = inside & ~outside
    assert (step[leaving] < 0).mean() > 0.8


def test_object_has_the_colour_of_its_caption(scenes, renders):
    known = np.array(list(COLOURS.values()))
    for scene, albedo, mask in zip(scenes, renders.albedo, renders.mask, strict=True):
        found = np.median(albedo[mask], axis=0)
        assert list(COLOURS)[np.abs(known - found).sum(1).argmin()] == scene.words.colour
        assert scene.words.colour in scene.caption
        assert scene.words.shape in scene.caption


def test_layout_cannot_be_guessed_from_position(renders):
    for name, most in (("depth", 0.7), ("shading", 0.6)):
        maps = getattr(renders, name)
        guess = np.repeat(maps[:200].mean(0)[None], 100, 0)
        assert np.nanmean(spearman(Reference.from_maps(maps[200:], 64), guess)) <= most


def test_depth_slopes_in_every_direction(renders):
    across = renders.depth[:, :, -8:].mean((1, 2)) - renders.depth[:, :, :8].mean((1, 2))
    assert 0.3 < (across > 0).mean() < 0.7
    down = renders.depth[:, -8:].mean((1, 2)) - renders.depth[:, :8].mean((1, 2))
    assert (down < 0).any()


def test_shape_decides_the_outline():
    spheres, tori = (render([sample_scene(i, w) for i in range(20)], 64).mask for w in (WORDS[0], WORDS[-1]))
    centre = [m[tuple(np.argwhere(m).mean(0).round().astype(int))] for m in spheres]
    assert all(centre)
    hole = [m[tuple(np.argwhere(m).mean(0).round().astype(int))] for m in tori]
    assert np.mean(hole) < 0.5


def test_training_never_sees_a_held_out_combination_but_every_word():
    scenes = scenes_for(0, 2000, keep_held_out=False)
    assert not any(held_out(scene.words) for scene in scenes)
    for field in ("shape", "colour", "floor", "background", "size"):
        assert {getattr(s.words, field) for s in scenes} == {getattr(w, field) for w in all_words()}
    assert 0.05 < np.mean([held_out(words) for words in all_words()]) < 0.2


def test_cached_renders_are_the_renders(tmp_path, scenes):
    first = rendered(scenes[:12], 32, tmp_path / "cache")
    second = rendered(scenes[:12], 32, tmp_path / "cache")
    fresh = render(scenes[:12], 32)
    for made in (first, second):
        assert np.array_equal(made.image, fresh.image)
        assert np.array_equal(made.depth, fresh.depth.astype(np.float16))


def test_mean_map_needs_no_image(renders):
    found = targets.mean_map("saliency", renders.mask[:200], renders.mask[200:220], renders.mask[220:], 16)
    assert 0.3 < found["dice"].mean() < 0.8
