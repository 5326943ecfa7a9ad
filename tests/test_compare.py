"""Two experiments side by side: which scores differ, where the maps do, and both pages in a real browser."""

import pandas as pd
import pytest

from scenescope.compare import changed, interval_of, map_difference


def both(old, new):
    return {"old": old, "new": new}


def test_only_what_differs_is_shown_and_intervals_stay_with_their_value():
    metrics = {
        "last_step.dice": both(0.5, 0.75),
        "last_step.dice_low": both(0.45, 0.7),
        "last_step.dice_high": both(0.55, 0.8),
        "last_step.rmse": both(0.25, 0.25),
        "depth.probe.step": both(3, 4),
        "depth.probe.low": both(2, 3),
        "depth.probe.high": both(4, 5),
        "depth.zt.step": both(None, 7),
        "depth.zt.low": both(None, 6),
        "depth.zt.high": both(None, 8),
    }
    dice, probe, zt = changed(metrics)
    assert dice == {"name": "last_step.dice", "old": "0.5 [0.45, 0.55]", "new": "0.75 [0.7, 0.8]", "apart": True}
    assert probe == {"name": "depth.probe.step", "old": "3 [2, 4]", "new": "4 [3, 5]", "apart": False}
    assert zt == {"name": "depth.zt.step", "old": "–", "new": "7", "apart": False}
    assert interval_of("zt.accuracy.last") == ("zt.accuracy.low", "zt.accuracy.high")


def test_the_map_shows_the_difference_of_cells_that_both_have():
    rows = [
        ("network", layer, target, step) for layer in ("a", "b") for target in ("depth", "saliency") for step in (1, 2)
    ]
    first = pd.DataFrame(rows, columns=["features", "layer", "target", "step"]).assign(score=0.5)
    second = first[first["layer"] == "a"].copy()
    assert map_difference(first, second) == []
    second.loc[second["step"] == 2, "score"] = 0.75
    depth, saliency = map_difference(first, second)
    assert (depth["target"], depth["most"]) == ("depth", "0.25")
    (layer,) = depth["layers"]
    assert [(cell["step"], cell["text"]) for cell in layer["cells"]] == [(1, "+0.000"), (2, "+0.250")]
    same, more = (cell["colour"] for cell in saliency["layers"][0]["cells"])
    red, _, blue = (int(more[i : i + 2], 16) for i in (1, 3, 5))
    assert blue > red and same != more


@pytest.mark.parametrize("words", (("HEAD", "nowhere"), ("nowhere", "HEAD")))
def test_an_unknown_revision_is_one_line(study, words):
    output = study.run("python", "-m", "scenescope.compare", *words, fails=True)
    assert output.startswith("error: dvc metrics diff") and "nowhere" in output and "Traceback" not in output
    assert not (study.home / "compare").exists()


@pytest.fixture(scope="module")
def pair(done, tmp_path_factory):
    """The folder of a comparison: the small study as committed, and one in which the page has two images, not three."""
    first, _ = done
    study = first.copied(tmp_path_factory.mktemp("pair") / "study")
    study.settings("params.yaml", report__images=2)
    study.run("dvc", "repro", "--single-item", "report")
    assert "compare/index.html" in study.run("python", "-m", "scenescope.compare", "HEAD", "workspace")
    return study.home / "compare"


@pytest.fixture
def opened(watched, pair):
    """Opens the comparison at a width: its page, and the two reports in it."""

    def open_at(width=1440, **how):
        page = watched([pair / name for name in ("index.html", "a.html", "b.html")], width, **how)
        frames = [page.frame(url=(pair / f"{name}.html").as_uri()) for name in "ab"]
        for frame in frames:
            frame.wait_for_selector("html[data-ready]")
            frame.wait_for_selector("#classified[data-ready]", state="attached")
        return page, *frames

    return open_at


def both_show(frames, script, wanted):
    for frame in frames:
        frame.wait_for_function(f"wanted => ({script}) === wanted", arg=wanted, timeout=5000)


def test_both_pages_load_and_what_differs_is_told(opened):
    page, *frames = opened()
    assert page.locator("#params tbody th").all_inner_texts() == ["report.images"]
    assert page.locator(".reports figcaption").all_inner_texts() == ["HEAD", "workspace"]
    assert [frame.locator("#choose input").count() for frame in frames] == [3, 2]


@pytest.mark.parametrize("moved", [0, 1])
def test_what_is_chosen_in_one_is_chosen_in_the_other(opened, moved):
    page, *frames = opened()
    one = frames[moved]
    one.locator("#step").focus()
    page.keyboard.press("End")
    both_show(frames, "document.getElementById('step-now').textContent", "4")
    one.locator("input[name=kind][value=x0]").check()
    both_show(frames, "document.querySelector('input[name=kind]:checked').value", "x0")
    one.locator("#choose input").nth(1).check()
    second = one.locator("#choose input").nth(1).get_attribute("aria-label")
    both_show(frames, "document.querySelector('#choose input:checked').getAttribute('aria-label')", second)
    both_show(frames, f"document.getElementById('prompt').textContent.includes({second!r})", True)
    one.locator("input[name=view][value=above_random]").check()
    one.locator("[data-cell='shading 4 1']").click()
    both_show(frames, "document.querySelector('#maps [aria-current]').dataset.cell", "shading 4 1")
    both_show(frames, "document.querySelector('input[name=view]:checked').value", "above_random")
    assert len({frame.inner_text("#cell h3") for frame in frames}) == 1
    one.locator("#class-choose input").nth(2).check()
    one.locator("#class-step").fill("0")
    both_show(frames, "document.getElementById('class-step-now').textContent", "1")
    both_show(frames, "document.querySelector('#class-choose input:checked').value", "2")


def test_an_image_that_only_one_has_leaves_the_other_where_it_is(opened):
    _, first, second = opened()
    first.locator("#choose input").nth(2).check()
    first.locator("#step").fill("0")
    both_show([first, second], "document.getElementById('step-now').textContent", "1")
    checked = "document.querySelector('#choose input:checked').value"
    assert [frame.evaluate(checked) for frame in (first, second)] == ["2", "0"]


def test_what_plays_in_one_plays_in_the_other(opened):
    _, first, second = opened()
    second.locator("#step").fill("0")
    second.click("#play")
    both_show([first, second], "document.getElementById('step-now').textContent", "4")


@pytest.mark.parametrize("moved", [0, 1])
def test_both_are_read_at_the_same_place(opened, moved):
    _, *frames = opened()
    for section in ("where", "classify", "watch"):
        frames[moved].evaluate(f"document.getElementById('{section}').scrollIntoView({{ behavior: 'instant' }})")
        near = f"Math.abs(document.getElementById('{section}').getBoundingClientRect().top - 16) < 3"
        both_show(frames, near, True)


def test_on_a_telephone_one_lies_behind_the_other_and_goes_along(opened):
    page, first, second = opened(390, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.is_visible("#a") and not page.is_visible("#b")
    first.locator("#step").fill("3")
    page.get_by_role("radio", name="workspace").check()
    assert page.is_visible("#b") and not page.is_visible("#a")
    both_show([first, second], "document.getElementById('step-now').textContent", "4")
