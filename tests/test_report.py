"""The page in a real browser, on the small study; and what it is made of, without one."""

import base64
import io
import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from scenescope import classifiers, scores, store
from scenescope.errors import UserError
from scenescope.report import charts, pictures, words
from scenescope.report.page import LIMIT, fitting, render
from scenescope.report.replay import MOST_STEPS, shown_steps
from scenescope.report.study import in_turns
from scenescope.settings import TARGETS
from scenescope.thumbnails import reduced, reduced_side

SCORE = {"saliency": "dice", "depth": "spearman", "shading": "spearman"}
LAYER = "dec4_l1"


@pytest.fixture
def visit(watched, done):
    """Opens the small study's page at a width."""
    study, _ = done

    def opened(width=1440, **how):
        page = watched([study.home / "plots" / "report.html"], width, **how)
        page.wait_for_selector("html[data-ready]")
        return page

    return opened


@pytest.fixture(scope="module")
def study_data(done):
    """What the page's script reads, with the tables that the stages wrote."""
    study, _ = done
    text = (study.home / "plots" / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    table = pd.read_csv(study.home / "data/prompts.csv", dtype={"prompt_id": str})
    data["test_ids"] = table[table.split == "test"].prompt_id.tolist()
    data["csv"] = pd.read_csv(study.home / "plots/data/layer_step.csv").set_index(
        ["features", "layer", "target", "step"]
    )
    data["home"] = study.home
    return data


def test_the_images_are_the_first_test_images(study_data):
    assert [image["id"] for image in study_data["images"]] == study_data["test_ids"][:3]


def fingerprints(page):
    """The pixels of every canvas of the scrubber, as text."""
    return page.eval_on_selector_all(".stage canvas", "all => Object.fromEntries(all.map(c => [c.id, c.toDataURL()]))")


def stored(home, image, step):
    """One test image's scores at a step, as the map and the label models' stage wrote them."""
    of_map = np.load(home / f"data/map/step_{step:03d}.npz")
    seen = np.load(home / f"data/onset/step_{step:03d}.npz")
    return {
        target: (of_map[f"network/{LAYER}/{target}/{score}"][image], seen[f"zt/{target}"][image])
        for target, score in SCORE.items()
    }


def shown_scores(page):
    return {
        target: tuple(float(page.get_attribute(f"#score-{who}-{target}", "data-value")) for who in ("probe", "seen"))
        for target in TARGETS
    }


def test_the_slider_changes_step_pictures_and_scores(visit, study_data):
    page = visit()
    slider = page.locator("#step")
    slider.focus()
    page.keyboard.press("Home")
    first = fingerprints(page)
    for step in range(1, 5):
        assert page.inner_text("#step-now") == str(step)
        known = stored(study_data["home"], 0, step)
        for target, values in shown_scores(page).items():
            assert values == pytest.approx(known[target], abs=6e-5)
            label = page.get_attribute(f"#probe-{target}", "aria-label")
            assert f"at step {step}" in label and f"{values[0]:.2f}".replace("-", "−") in label
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#step-now") == "4"
    last = fingerprints(page)
    changed = {name for name in first if first[name] != last[name]}
    assert changed >= {"picture", "probe-depth", "probe-shading", "seen-depth", "seen-shading"}
    assert not changed & {"final", "goal-saliency", "goal-depth", "goal-shading"}
    slider.fill("1")
    assert page.inner_text("#step-now") == "2"
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "step 4 of 4"


def test_the_predicted_picture_is_another_and_so_is_what_is_seen_in_it(visit):
    page = visit()
    before = fingerprints(page)
    page.get_by_role("radio", name="predicted").check()
    after = fingerprints(page)
    assert before["picture"] != after["picture"] and before["seen-shading"] != after["seen-shading"]
    assert before["probe-depth"] == after["probe-depth"] and before["goal-depth"] == after["goal-depth"]


def test_another_image_can_be_chosen(visit, study_data):
    page = visit()
    before = fingerprints(page)
    page.locator("#choose input").nth(1).check()
    page.wait_for_selector(f"html[data-ready='{study_data['images'][1]['id']}']")
    after = fingerprints(page)
    assert before["final"] != after["final"] and before["goal-depth"] != after["goal-depth"]
    assert study_data["images"][1]["prompt"] in page.inner_text("#prompt")
    assert shown_scores(page)["depth"][0] == pytest.approx(stored(study_data["home"], 1, 3)["depth"][0], abs=6e-5)


def test_play_goes_to_the_last_step_and_stops(visit):
    page = visit()
    page.click("#play")
    page.wait_for_function("document.getElementById('step-now').textContent === '4'")
    page.wait_for_function("document.getElementById('play').getAttribute('aria-pressed') === 'false'")


def answers(page, kind):
    """What is shown of a kind of picture: names and shares in order, what is marked as prompted, and the pixels."""
    rows = page.locator(f"#guess-{kind} li")
    shares = page.eval_on_selector_all(f"#guess-{kind} li b", "all => all.map(e => Number(e.dataset.value))")
    names = rows.locator("span span").all_inner_texts()
    marked = page.locator(f"#guess-{kind} li.own span span").all_inner_texts()
    return names, shares, marked, page.locator(f"#guess-{kind} canvas").evaluate("c => c.toDataURL()")


def test_every_classified_picture_has_its_five_classes_at_every_step(visit, study_data):
    page, home = visit(), study_data["home"]
    top = pd.read_csv(home / "data/classify/top5.csv", dtype={"prompt_id": str})
    settled = pd.read_csv(home / "data/classify/settled.csv", dtype={"prompt_id": str}).set_index("prompt_id")
    assert {image["id"] for image in study_data["classified"]} == set(settled.index)
    slider, pixels = page.locator("#class-step"), set()
    for number in (1, 3):
        image = study_data["classified"][number]["id"]
        page.locator("#class-choose input").nth(number).check()
        page.wait_for_selector(f"#classified[data-ready='{image}']")
        assert settled.prompt[image] in page.inner_text("#class-prompt")
        slider.focus()
        page.keyboard.press("Home")
        for step in range(1, 5):
            assert page.inner_text("#class-step-now") == str(step)
            for kind in ("zt", "x0"):
                known = top[(top.prompt_id == image) & (top.seen == kind) & (top.step == step)].sort_values("rank")
                names, shares, marked, drawn = answers(page, kind)
                wanted = known["class"].iloc[0]
                assert names == known["name"].tolist()
                assert shares == pytest.approx(known.probability.tolist(), abs=6e-5)
                assert marked == [name for name in names if name == wanted]
                told = page.inner_text(f"#guess-{kind} .standing")
                if marked:
                    assert ("Named as prompted" in told) == (names[0] == wanted)
                else:
                    assert f"{wanted}, is not among these" in told
                since = settled[kind][image]
                assert ("never named" if since != since else f"from step {since:.0f} on") in told
                assert f"at step {step} of 4" in page.get_attribute(f"#guess-{kind} canvas", "aria-label")
                assert names[0] in slider.get_attribute("aria-valuetext")
                pixels.add(drawn)
            page.keyboard.press("ArrowRight")
    assert len(pixels) == 2 * 4 * 2  # every picture is another


def test_bars_are_as_long_as_classes_are_probable(visit):
    page = visit()
    page.wait_for_selector("#classified[data-ready]")
    for kind in ("zt", "x0"):
        lengths = page.eval_on_selector_all(
            f"#guess-{kind} li", "all => all.map(e => e.lastChild.clientWidth / e.clientWidth)"
        )
        assert lengths == pytest.approx(answers(page, kind)[1], abs=0.02)


def test_classified_pictures_are_those_that_the_classifier_saw(study_data):
    """The strips hold, up to the losses of WebP, pictures in which the classifier sees again what it has seen."""
    home, steps = study_data["home"], len(study_data["steps"])
    ids = pd.read_csv(home / "data/classify/settled.csv", dtype={"prompt_id": str}).prompt_id.tolist()
    image = study_data["classified"][2]
    seen, probabilities = (
        store.read(store.open_whole(home / f"data/classify/{name}"), ids.index(image["id"]))
        for name in ("pictures", "probabilities")
    )
    classifier = classifiers.load("tabletop", home / "models/tabletop", "cpu")
    for kind, known, said in zip(("zt", "x0"), seen, probabilities, strict=True):
        assert np.allclose(classifier(known), said, atol=1e-4)
        strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(image[kind].partition(",")[2]))))
        frames = strip.reshape(64, steps, 64, 3).swapaxes(0, 1)
        apart = np.abs(frames.astype(float) - known).mean((1, 2, 3))
        assert apart.max() < 16 and apart[-1] < 6
        shuffled = np.abs(frames.astype(float) - known[::-1]).mean((1, 2, 3))
        assert shuffled.min() > 2 * apart.max()


def test_one_of_every_class_comes_before_a_second_of_any():
    assert in_turns(pd.Series(["a", "a", "b", "a", "c", "b"])).tolist() == [0, 2, 4, 1, 5, 3]


def cell(page, target, layer, step, data):
    return page.locator(f"[data-cell='{target} {data['layers'].index(layer)} {step - 1}']")


def test_a_cell_tells_its_score_and_controls_as_in_the_table(visit, study_data):
    page = visit()
    rows = study_data["csv"]
    for target, layer, step in (("depth", "dec3_l2", 2), ("saliency", "mid_l1", 4), ("shading", "enc1_l1", 1)):
        cell(page, target, layer, step, study_data).click()
        row = rows.loc[("network", layer, target, step)]
        assert float(page.get_attribute("#cell-score", "data-value")) == pytest.approx(row.score, abs=1e-9)
        for control, where in (("position", "-"), ("random", layer), ("shuffled", layer), ("mean_map", "-")):
            known = rows.loc[(control, where, target, step)].score, row[f"above_{control}"]
            values = page.eval_on_selector_all(
                f"tr[data-control={control}] [data-value]", "all => all.map(e => Number(e.dataset.value))"
            )
            assert values == pytest.approx(known, abs=1e-9)
        assert f"{row.selectivity:+.2f}".replace("-", "−") in page.inner_text("tr[data-control=task]")
        assert f"{target}, {layer}, step {step}" in page.inner_text("#cell h3")


def test_cells_are_reached_by_keyboard(visit, study_data):
    page = visit()
    cell(page, "depth", LAYER, 2, study_data).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    above = study_data["layers"][study_data["layers"].index(LAYER) - 1]
    assert f"depth, {above}, step 3" in page.inner_text("#cell h3")
    assert len(page.query_selector_all("#maps [tabindex='0']")) == len(TARGETS)


def test_the_map_switches_to_what_is_above_a_control(visit, study_data):
    page = visit()
    button = cell(page, "depth", LAYER, 4, study_data)
    row = study_data["csv"].loc[("network", LAYER, "depth", 4)]
    before = button.evaluate("e => getComputedStyle(e).backgroundColor"), button.get_attribute("aria-label")
    assert before[1].endswith(f"{row.score:.2f}")
    page.get_by_role("radio", name="above random weights").check()
    after = button.evaluate("e => getComputedStyle(e).backgroundColor"), button.get_attribute("aria-label")
    assert after[0] != before[0] and after[1].endswith(f"{row.above_random:+.2f}".replace("-", "−"))
    assert page.is_visible("#struck-note")


def test_the_best_layer_on_validation_images_is_framed(visit, study_data):
    page = visit()
    rows = study_data["csv"].loc["network"].reset_index()
    for target in TARGETS:
        best = rows[rows.target == target].groupby("step").validation.transform("max")
        of = rows[(rows.target == target)]
        for step in of.step.unique():
            wanted = of[(of.step == step) & (of.validation == best[of.index])].layer.tolist()
            framed = page.eval_on_selector_all(
                f"#map-{target} button.best", "all => all.map(e => e.dataset.cell.split(' ').slice(1).map(Number))"
            )
            (layer,) = [study_data["layers"][number] for number, frame in framed if frame == step - 1]
            assert layer in wanted


def test_prompts_are_found_by_word_and_split(visit, study_data):
    page = visit()
    rows = study_data["prompts"]
    assert page.inner_text("#found") == f"{len(rows)} of {len(rows)}"
    page.fill("#search", "CUBE floor")
    wanted = [row for row in rows if "cube" in row[1] and "floor" in row[1]]
    assert page.locator("#rows tr:visible").count() == len(wanted)
    page.select_option("#split", "test")
    assert page.inner_text("#found") == f"{sum(row[3] == 'test' for row in wanted)} of {len(rows)}"


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_both_schemes_are_told_apart(visit, width, scheme):
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 380) == (scheme == "dark")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


def test_on_paper_there_are_the_steps_side_by_side(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.is_visible("#film canvas >> nth=0") and not page.is_visible("#step")
    assert page.locator("#film canvas").count() == 4 * (1 + len(TARGETS))
    page.wait_for_selector("#classified[data-ready]")
    assert page.is_visible("#class-film canvas >> nth=0") and not page.is_visible("#class-step")
    assert page.locator("#class-film figcaption").count() == 4 * 2
    assert page.inner_text("#guess-zt h4") == "as it is, step 3"


@pytest.mark.parametrize("slider", ["step", "class-step"])
def test_a_finger_moves_the_slider(visit, slider):
    page = visit(390, has_touch=True)
    page.wait_for_selector("#classified[data-ready]")
    page.locator(f"#{slider}").scroll_into_view_if_needed()
    box = page.locator(f"#{slider}").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert page.inner_text(f"#{slider}-now") == "4"


def test_it_is_small_and_quick(visit, done):
    study, _ = done
    assert (study.home / "plots/report.html").stat().st_size <= LIMIT
    start = time.monotonic()
    visit()
    assert time.monotonic() - start < 10  # two seconds are wanted of a machine that does nothing else


def test_masks_on_the_page_score_what_the_map_says(study_data):
    """The page cuts masks anew: their scores must be the map's."""
    home, layers, grids = study_data["home"], study_data["layers"], study_data["grids"]
    layer = layers.index(LAYER)
    grid, top = grids[layer], sum(grids[:layer])
    table = pd.read_csv(home / "data/prompts.csv", dtype={"prompt_id": str})
    labels = store.open_whole(home / "data/labels/saliency")
    for place, image in enumerate(study_data["images"]):
        stream = io.BytesIO(base64.b64decode(image["probe"]["saliency"].partition(",")[2]))
        levels = np.asarray(Image.open(stream))
        known = scores.Reference.from_maps(
            np.asarray(labels[table.index[table.prompt_id == image["id"]][0]])[None], grid
        )
        for frame, step in enumerate(study_data["steps"]):
            mask = levels[top : top + grid, frame * grid : (frame + 1) * grid] > 127
            wanted = np.load(home / f"data/map/step_{step:03d}.npz")[f"network/{LAYER}/saliency/dice"][place]
            assert scores.dice(known, mask[None])[0] == pytest.approx(wanted, abs=1e-6)


def test_all_settings_are_on_the_page_and_the_commit_can_be_found(done):
    study, _ = done
    text = (study.home / "plots/report.html").read_text()

    def leaves(values, prefix=""):
        for name, value in values.items():
            yield from leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

    values = yaml.safe_load((study.home / "params.yaml").read_text())
    values.pop("compute")  # where it ran, on which nothing depends
    for name in leaves(values):
        assert f'<th scope="row">{name}</th>' in text
    command = re.search(r"<pre>(git log .*?)</pre>", text)[1]
    first = study.run(*command.split()).splitlines()[-1]  # experiments that other tests ran come after it
    assert first.split(maxsplit=1)[1] == "results"


def onsets(steps, low, high):
    gap = {"steps": steps, "low": low, "high": high}
    return {t: {"probe_before_zt": gap, "probe_before_x0": gap} for t in TARGETS}


@pytest.mark.parametrize(
    ("gap", "head", "told"),
    [
        ((7, 6, 8), "before it can be seen", "by 7 [6, 8] steps for saliency, 7 [6, 8] steps for depth and"),
        ((0, -1, 1), "No sign", "neither is first"),
        ((-2, -3, -1), "No sign", "only after a label model finds the same in the half-denoised picture: by 2 [1, 3]"),
        ((None, None, None), "No sign", "nothing to compare"),
    ],
)
def test_the_sentences_follow_the_numbers(gap, head, told):
    assert head in words.headline(onsets(*gap))
    assert told in words.comparison(onsets(*gap), "zt")
    assert "nan" not in words.behind(onsets(*gap), "x0").lower()


def test_a_part_of_the_scene_is_not_called_all_of_it():
    some = onsets(7, 6, 8) | {"shading": onsets(0, -1, 1)["shading"]}
    assert "salient object and depth before it can be seen; not all" in words.headline(some)


def test_as_many_images_as_fit():
    images = [{"id": "x" * 100}] * 5
    assert len(fitting(iter(images), rest=100, limit=500)) == 3
    with pytest.raises(UserError, match="with a single image"):
        fitting(iter(images), rest=450, limit=500)


def test_large_pictures_are_reduced_and_many_steps_picked():
    large = np.zeros((2, 768, 768, 3), np.uint8)
    assert reduced(large, pictures.SIDE).shape == (2, 256, 256, 3)
    assert reduced(large[:, :64, :64], pictures.SIDE).shape == (2, 64, 64, 3)
    assert reduced(large).shape == (2, reduced_side(768), reduced_side(768), 3) == (2, 128, 128, 3)
    assert shown_steps(15) == list(range(1, 16))
    assert (len(shown_steps(200)), shown_steps(200)[0], shown_steps(200)[-1]) == (MOST_STEPS, 1, 200)


def test_a_line_without_an_onset_or_without_scores_is_drawn_all_the_same():
    drawn = charts.draw([charts.Line("probe", [])], charts.steps_axis(4), 0.0, "nothing")
    assert drawn.startswith("<svg") and "mark" not in drawn
    assert "mark" not in charts.lane({"step": None, "low": None, "high": None}, "zt", 4)


def test_a_prompt_cannot_end_the_script(monkeypatch, tmp_path):
    for name in ("css", "js"):
        (tmp_path / f"page.{name}").write_text("")
    (tmp_path / "page.html").write_text("<script>{{ data|safe }}</script>")
    monkeypatch.setattr("scenescope.report.page.FOLDER", tmp_path)
    page = render({}, {"prompt": "</script><b>"})
    assert page.count("</script>") == 1
