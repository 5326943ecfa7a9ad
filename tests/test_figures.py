"""The figures keep what they promise: all their panels, nothing clipped, and the same bytes every time."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from scenescope.figures.by_step import by_step
from scenescope.figures.classes import classes_chart
from scenescope.figures.emergence import emergence, shown_steps
from scenescope.figures.frame import animate, frame
from scenescope.figures.heatmap import CONTROLS, heatmap, heatmap_above
from scenescope.figures.labelled import labelled
from scenescope.figures.onset import ROWS, onset_chart
from scenescope.figures.style import BODY, SMALL, TARGETS, display_range, save, styled, text_width, wrap
from scenescope.figures.tables import table1, table2

PROMPT = "a large orange sphere on a checkered floor with brick background, for $5 or $6"
MODULE = "up_blocks.3.attentions.0.transformer_blocks.0.attn1.to_out.0"


def draw_emergence(steps=4):
    random = np.random.default_rng(0)
    decoded = random.integers(0, 256, (steps, 16, 16, 3), np.uint8)
    predictions = {target: random.normal(size=(steps, 8, 8)) for target in TARGETS}
    labels = {target: random.uniform(size=(16, 16)) for target in TARGETS}
    return emergence(decoded, predictions, labels, PROMPT, MODULE)


def draw_labelled(prompts=(PROMPT, "a cone", "word " * 200)):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (len(prompts), 16, 16, 3), np.uint8)
    labels = {target: random.uniform(size=(len(prompts), 16, 16)) for target in TARGETS}
    return labelled(images, labels, prompts)


def draw_by_step(steps=15, lift=0.0):
    scores = pd.DataFrame(
        {"target": target, "method": method, "step": step, "score": 0.5 + lift + step / 100}
        for target in TARGETS
        for method in ("probe", "ridge", "position", "mean_map", "random")
        for step in range(1, steps + 1)
    )
    return by_step(scores.assign(low=scores.score - 0.1, high=scores.score + 0.1))


def draw_negative_by_step():
    return draw_by_step(lift=-0.7)


LAYERS = ("enc1_l1", "enc1_l2", "mid_l1", "dec2_l1", "dec2_l2", "dec2_l3")


def layer_step(steps=15, layers=LAYERS, scale=0.1):
    """A map of made-up scores, shaped like plots/data/layer_step.csv."""
    random = np.random.default_rng(0)
    found = [("network", layer) for layer in layers] + [("random", layer) for layer in layers]
    found += [("position", "-"), ("mean_map", "-")]
    rows = pd.DataFrame(
        {"features": features, "layer": layer, "step": step, "target": target}
        for step in range(1, steps + 1)
        for features, layer in found
        for target in TARGETS
    )
    for name in ("score", "pearson", "validation"):
        rows[name] = random.uniform(0, 1, len(rows))
    for name in ("above_position", "above_random"):
        rows[name] = random.uniform(-scale, scale, len(rows))
    for name in ("score", "pearson", "above_position", "above_random"):
        rows[f"{name}_low"], rows[f"{name}_high"] = rows[name] - scale / 4, rows[name] + scale / 4
    rows.loc[rows.features != "network", ["validation", "above_position", "above_random"]] = np.nan
    return rows


def draw_heatmap():
    return heatmap(layer_step())


def draw_heatmap_above(**how):
    return heatmap_above(layer_step(**how))


def draw_table1(layers=16):
    numbers = {"tokens": 4096, "channels": 320, "upsampling": 8}
    return table1(pd.DataFrame({"layer": layer, "module": MODULE, **numbers} for layer in range(1, layers + 1)))


def table2_rows():
    columns = ["saliency_dice", "depth_spearman", "depth_pearson", "shading_spearman", "shading_pearson"]
    paper = {"published": True, "model": "Stable Diffusion v1.4", "method": "probe"} | dict.fromkeys(columns, "0.71")
    ours = {"published": False, "model": "ours", "method": "ridge"} | dict.fromkeys(columns, "0.85 [0.84, 0.86]")
    return pd.DataFrame([ours, paper, ours | {"depth_pearson": "–"}])


def draw_table2():
    return table2(table2_rows())


def draw_frame(step=3, brightness=0.0):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (16, 16, 3), np.uint8)
    predictions = {target: random.normal(size=(8, 8)) + brightness for target in TARGETS}
    seen, labels = ({target: random.uniform(size=(16, 16)) for target in TARGETS} for _ in range(2))
    return frame(step, 15, image, predictions, seen, labels | {"image": image}, dict.fromkeys(TARGETS, (-2.0, 2.0)))


HEATMAPS = (draw_heatmap, draw_heatmap_above)


def draw_onset(steps=15, missing=(), lift=0.0):
    """Rows that rise one after the other, each from its onset on; some have none."""
    first = {row: min(steps, 1 + 4 * place) for place, row in enumerate(ROWS)}
    scores = pd.DataFrame(
        {"row": row, "target": target, "step": step, "score": lift + (0.9 if step >= first.get(row, 1) else 0.2)}
        for target in TARGETS
        for row in (*ROWS, "mean_map")
        for step in range(1, steps + 1)
    )
    onsets = {row: {"step": step, "low": max(1, step - 1), "high": step} for row, step in first.items()}
    onsets |= {row: {"step": None, "low": None, "high": None} for row in missing}
    table = scores.assign(low=scores.score - 0.1, high=scores.score + 0.1)
    return onset_chart(table, dict.fromkeys(TARGETS, onsets), 0.9)


def top5(rivals=("a blue cube", "a cup", "a red sphere"), steps=15):
    """What a classifier says of two prompts: classes that grow, each later than the one before."""
    rows = []
    for name in ("p0", "p1"):
        for seen in ("zt", "x0"):
            for step in range(1, steps + 1):
                for rank, rival in enumerate(("lemon, citrus", *rivals, "rare"), start=1):
                    row = {"prompt_id": name, "prompt": PROMPT, "class": "lemon, citrus", "seen": seen, "step": step}
                    value = 0.01 if rival == "rare" else 0.9 * step / steps / rank
                    rows.append(row | {"rank": rank, "name": rival, "probability": value})
    return pd.DataFrame(rows)


def draw_classes(steps=15):
    pictures = np.random.default_rng(0).integers(0, 256, (2, steps, 16, 16, 3), np.uint8)
    return classes_chart(top5(steps=steps), {"p0": pictures, "p1": pictures})


DRAWINGS = (
    *(draw_emergence, draw_labelled, draw_by_step, draw_onset, draw_classes),
    *(*HEATMAPS, draw_table1, draw_table2, draw_frame),
)
every_figure = pytest.mark.parametrize("draw", DRAWINGS)


@styled  # as ``save`` does: where ticks go is decided when a figure is drawn
def boxes(figure):
    """The texts of a figure that are seen, each with its box in dots."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def colour_limits(figure):
    """The range of values that the colours stand for, of every map in the order of drawing."""
    return [axes.images[0].get_clim() for axes in figure.axes if axes.images[0].get_array().ndim == 2]


@pytest.mark.parametrize("draw", (*DRAWINGS, draw_negative_by_step))
def test_no_text_leaves_the_figure(draw):
    figure = draw()
    found = boxes(figure)
    width, height = figure.bbox.size
    assert found
    for text, box in found:
        assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height, text


@every_figure
def test_no_text_overlaps_another(draw):
    found = [(text, box.padded(-1)) for text, box in boxes(draw())]
    for number, (text, box) in enumerate(found):
        for other, other_box in found[:number]:
            assert not box.overlaps(other_box), (text, other)


@pytest.mark.parametrize("draw", (draw_emergence, draw_labelled, draw_frame))
def test_no_text_lies_on_a_picture(draw):
    figure = draw()
    for text, box in boxes(figure):
        assert not any(box.padded(-1).overlaps(axes.bbox) for axes in figure.axes), text


@every_figure
@pytest.mark.parametrize("suffix", ("png", "svg"))
def test_the_same_input_gives_the_same_bytes(draw, suffix, tmp_path):
    save(draw(), tmp_path / f"first.{suffix}")
    # Settings of whoever calls must not matter.
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 50, "svg.hashsalt": "other", "text.parse_math": True}):
        save(draw(), tmp_path / f"second.{suffix}")
    assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


def test_a_figure_can_be_saved_again(tmp_path):
    figure = draw_by_step()
    for name in ("first.png", "between.svg", "last.png"):
        save(figure, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "last.png").read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path):
    code = "import sys; from tests.test_figures import draw_by_step, save; save(draw_by_step(), sys.argv[1])"
    save(draw_by_step(), tmp_path / "here.svg")
    # Hashes of strings differ from process to process, unless they are told not to.
    environment = os.environ | {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "0"}
    command = [sys.executable, "-c", code, tmp_path / "there.svg"]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1])
    here, there = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("here.svg", "there.svg"))
    assert here == there


@pytest.mark.parametrize("suffix", ("png", "svg"))
def test_files_tell_no_date_and_no_software(suffix, tmp_path):
    path = tmp_path / "new" / f"figure.{suffix}"
    save(draw_table2(), path)
    content = path.read_bytes().lower()
    assert b"matplotlib" not in content and b"<dc:date>" not in content


def test_drawing_leaves_no_traces():
    before = dict(matplotlib.rcParams)
    draw_by_step()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("steps", (3, 15, 50))
def test_emergence_has_a_column_for_each_shown_step_and_one_for_the_labels(steps):
    figure = draw_emergence(steps)
    assert len(figure.axes) == 4 * (min(steps, 15) + 1)
    assert {str(step) for step in shown_steps(steps)} <= set(texts(figure))
    width, height = figure.get_size_inches()
    assert width < 8 and height < 4


def test_many_steps_are_thinned_evenly_between_the_first_and_the_last():
    for steps in range(1, 16):
        assert list(shown_steps(steps)) == list(range(1, steps + 1))
    for steps in range(16, 101):
        shown = shown_steps(steps)
        assert len(shown) == 15 and shown[0] == 1 and shown[-1] == steps
        assert np.ptp(np.diff(shown)) <= 1


def test_emergence_shows_the_steps_it_names():
    steps = 20
    decoded = np.broadcast_to(np.arange(steps, dtype=np.uint8)[:, None, None, None], (steps, 4, 4, 3))
    predictions = {target: np.broadcast_to(np.arange(steps)[:, None, None], (steps, 2, 2)) for target in TARGETS}
    figure = emergence(decoded, predictions, {target: np.eye(4) for target in TARGETS}, PROMPT, MODULE)
    shown = shown_steps(steps) - 1
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    images = [picture.flat[0] for picture in pictures if picture.ndim == 3]
    assert images == [*shown, steps - 1]
    maps = [picture.flat[0] for picture in pictures if picture.shape == (2, 2)]
    assert maps == [*shown] * len(TARGETS)


def test_emergence_gives_a_row_one_range_and_the_labels_their_own():
    limits = colour_limits(draw_emergence(4))
    saliency, depth, shading = (limits[start : start + 5] for start in (0, 5, 10))
    assert set(saliency) == {(0.0, 1.0)}
    for row in (depth, shading):
        assert len(set(row[:4])) == 1 and row[4] != row[0]


def test_predictions_are_shown_token_by_token():
    figure = draw_emergence(4)
    maps = [axes.images[0] for axes in figure.axes if axes.images[0].get_array().shape == (8, 8)]
    assert len(maps) == 12 and {image.get_interpolation() for image in maps} == {"nearest"}


def test_a_few_strays_do_not_set_the_range():
    values = np.append(np.linspace(0, 1, 1000), 1e6)
    low, high = display_range("depth", values)
    assert 0 <= low < 0.05 and 0.95 < high <= 1


def test_labelled_has_a_row_for_each_image():
    assert len(draw_labelled(["a cube"] * 5).axes) == 5 * 4
    with pytest.raises(ValueError):
        labelled(np.zeros((2, 4, 4, 3), np.uint8), {target: np.zeros((2, 4, 4)) for target in TARGETS}, ["one prompt"])


def test_prompts_that_are_too_long_end_in_an_ellipsis():
    assert [text for text in texts(draw_labelled()) if text.endswith(" …")] == ["word word word word …"]


@pytest.mark.parametrize("steps", (1, 3, 15, 50))
def test_by_step_has_three_panels_with_whole_steps_and_one_legend(steps):
    figure = draw_by_step(steps)
    assert [panel.get_title() for panel in figure.axes] == list(TARGETS)
    assert [panel.get_ylabel() for panel in figure.axes] == ["Dice", "Spearman’s ρ", "Spearman’s ρ"]
    assert len(figure.legends) == 1 and not any(panel.get_legend() for panel in figure.axes)
    for panel in figure.axes:
        ticks = panel.get_xticks()
        assert ticks[0] == 1 and ticks[-1] <= steps and len(ticks) <= 8 and all(ticks == ticks.astype(int))
        assert [len(line.get_xdata()) for line in panel.lines] == [steps] * 5 and len(panel.collections) == 2


def test_by_step_starts_at_zero_or_below_the_lowest_band():
    assert draw_by_step().axes[0].get_ylim() == (0, 1)
    low, high = draw_negative_by_step().axes[0].get_ylim()
    assert low == pytest.approx(-0.3) and high == 1


def test_by_step_draws_controls_thinner_and_each_curve_in_its_own_way():
    looks = {(line.get_linewidth(), line.get_color(), line.get_linestyle()) for line in draw_by_step().axes[0].lines}
    assert len(looks) == 5 and sorted(width for width, _, _ in looks) == [0.8, 0.8, 0.8, 1.4, 1.4]


@pytest.mark.parametrize("steps", (1, 4, 15, 50))
def test_the_onset_chart_marks_each_row_at_its_onset(steps):
    figure = draw_onset(steps)
    assert [panel.get_title() for panel in figure.axes] == list(TARGETS) and len(figure.legends) == 1
    for panel in figure.axes:
        for place, (_, colour, _, marker) in enumerate(ROWS.values()):
            (mark,) = (line for line in panel.lines if line.get_marker() == marker and len(line.get_xdata()) == 1)
            assert (*mark.get_xdata(), *mark.get_ydata()) == (min(steps, 1 + 4 * place), 0.9)
            (curve,) = (line for line in panel.lines if line.get_marker() == "None" and line.get_color() == colour)
            assert len(curve.get_xdata()) == steps and mark.get_color() == colour
        bars = [tuple(line.get_xdata()) for line in panel.lines if line.get_marker() == "|"]
        assert bars == [(max(1, s - 1), s) for s in (min(steps, 1 + 4 * place) for place in range(len(ROWS)))]
    assert "90 %" in figure.axes[1].get_xlabel()


def test_the_onset_chart_leaves_out_what_has_no_onset_and_what_it_does_not_show():
    figure = draw_onset(missing=["zt"], lift=-0.5)
    for panel in figure.axes:
        assert sum(line.get_marker() == "|" for line in panel.lines) == len(ROWS) - 1
        assert sum(len(line.get_xdata()) == 15 for line in panel.lines) == len(ROWS) == len(panel.collections)
    assert figure.axes[0].get_ylim()[0] <= -0.4


def maps(figure):
    """The panels that show a map, in reading order, without the colour bars."""
    return [axes for axes in figure.axes if len(axes.get_yticks()) == len(LAYERS)]


def values(panel):
    return panel.collections[0].get_array()


def marks(panel, marker):
    """Where a panel's marks of one kind are: (layer, step), both as in the table."""
    (line,) = (line for line in panel.lines if line.get_marker() == marker)
    return {(LAYERS[int(layer)], int(step)) for step, layer in zip(*line.get_data(), strict=True)}


@pytest.mark.parametrize("steps", (1, 4, 15, 50))
def test_heatmaps_have_a_panel_for_each_target_and_control(steps):
    table = layer_step(steps=steps)
    assert [panel.get_title() for panel in maps(heatmap(table))] == list(TARGETS)
    panels = maps(heatmap_above(table))
    assert len(panels) == len(TARGETS) * len(CONTROLS)
    assert [panel.get_title() for panel in panels[: len(TARGETS)]] == list(TARGETS)
    assert {f"above {name}" for name in CONTROLS.values()} <= set(texts(heatmap_above(table)))
    for panel in panels:
        assert values(panel).shape == (len(LAYERS), steps)
        ticks = panel.get_xticks()
        assert ticks[0] == 1 and ticks[-1] <= steps and len(ticks) <= 8
    for panel in panels[:: len(TARGETS)]:
        assert [label.get_text() for label in panel.get_yticklabels()] == list(LAYERS)


def test_heatmaps_show_the_table_cell_by_cell_in_the_order_of_its_layers():
    table = layer_step()
    shown = {("score", target): panel for target, panel in zip(TARGETS, maps(heatmap(table)), strict=True)}
    columns = [(f"above_{control}", target) for control in CONTROLS for target in TARGETS]
    shown |= dict(zip(columns, maps(heatmap_above(table)), strict=True))
    for (column, target), panel in shown.items():
        cells = table[(table.features == "network") & (table.target == target)].set_index(["layer", "step"])[column]
        # Where a cell is drawn, not only where it is in the array.
        corners = panel.collections[0].get_coordinates()[:-1, :-1]
        for (step, layer), value in zip(corners.reshape(-1, 2) + 0.5, values(panel).flat, strict=True):
            assert cells[LAYERS[int(layer)], int(step)] == value
        assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first layer is at the top


def test_heatmaps_need_no_order_of_rows():
    table = layer_step()
    # Steps upside down; layers still come first as the U-Net runs them.
    turned = table.sort_values("step", ascending=False, kind="stable")
    for before, after in zip(maps(heatmap(table)), maps(heatmap(turned)), strict=True):
        assert (values(before) == values(after)).all()


def test_higher_scores_are_lighter_and_differences_have_white_at_zero():
    mesh = maps(draw_heatmap())[0].collections[0]
    lightness = mesh.cmap(np.linspace(0, 1, 20))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()
    assert mesh.get_clim() == (mesh.get_array().min(), mesh.get_array().max())
    for panel in maps(draw_heatmap_above()):
        mesh = panel.collections[0]
        low, high = mesh.get_clim()
        assert low == -high and high >= abs(mesh.get_array()).max()
        assert mesh.to_rgba(0.0)[:3] == pytest.approx((1, 1, 1), abs=0.05)
        red, blue = mesh.to_rgba(low), mesh.to_rgba(high)
        assert red[0] > red[2] and blue[2] > blue[0]


def test_panels_of_one_target_share_the_range_of_differences_and_its_colour_bar():
    table = layer_step()
    table.loc[table.target == "depth", "above_random"] *= 3
    figure = heatmap_above(table)
    limits = [panel.collections[0].get_clim() for panel in maps(figure)]
    assert limits[:3] == limits[3:] and len(set(limits)) == 3
    labels = [axes.get_xlabel() for axes in figure.axes if axes not in maps(figure)]
    assert labels == ["difference in Dice", *["difference in Spearman’s ρ"] * 2]
    labels = [axes.get_xlabel() for axes in heatmap(table).axes[3:]]
    assert labels == ["Dice", "Spearman’s ρ", "Spearman’s ρ"]


def test_the_marked_layer_is_best_on_validation_whatever_the_test_images_say():
    table = layer_step(steps=5)
    table.loc[(table.target == "depth") & (table.step == 3), "validation"] = np.nan
    for target, panel in zip(TARGETS, maps(heatmap(table)), strict=True):
        rows = table[(table.features == "network") & (table.target == target)].dropna(subset="validation")
        best = rows.loc[rows.groupby("step").validation.idxmax()]
        assert marks(panel, "o") == set(zip(best.layer, best.step, strict=True))


def test_differences_whose_interval_includes_zero_are_struck_through():
    table = layer_step()
    panels = iter(maps(heatmap_above(table)))
    for control in CONTROLS:
        for target in TARGETS:
            rows = table[(table.features == "network") & (table.target == target)]
            unsure = rows[(rows[f"above_{control}_low"] <= 0) & (rows[f"above_{control}_high"] >= 0)]
            assert 0 < len(unsure) < len(rows)
            assert marks(next(panels), (2, 0, -45)) == set(zip(unsure.layer, unsure.step, strict=True))


@pytest.mark.parametrize("scale", (0.001, 0.0123, 1.0))
def test_numbers_of_neighbouring_colour_bars_keep_apart(scale):
    test_no_text_overlaps_another(lambda: draw_heatmap_above(steps=4, scale=scale))
    test_no_text_leaves_the_figure(lambda: draw_heatmap_above(steps=4, scale=scale))


def test_tables_show_every_cell():
    assert texts(draw_table1(16)).count(MODULE) == 16
    found = texts(draw_table2())
    assert found.count("0.71") == 5 and found.count("0.85") == found.count("[0.84, 0.86]") == 9
    assert found.count("–") == 1


def test_table2_sets_the_paper_apart():
    found = texts(draw_table2())
    order = ["published in the paper", "Stable Diffusion v1.4", "measured here", "ours"]
    places = [found.index(text) for text in order]
    assert places == sorted(places)
    colours = {text.get_text(): text.get_color() for text in draw_table2().findobj(Text)}
    assert colours["Stable Diffusion v1.4"] != colours["ours"]
    rows = table2_rows()
    assert "published in the paper" not in texts(table2(rows[~rows.published]))


def test_frames_share_size_and_colours():
    early, late = draw_frame(3), draw_frame(4, brightness=1.0)
    assert "step 3 of 15" in texts(early) and len(early.axes) == 12
    assert colour_limits(early) == colour_limits(late)
    assert colour_limits(early)[::3] == [(-2.0, 2.0)] * len(TARGETS)
    assert tuple(early.get_size_inches()) == tuple(late.get_size_inches())


def test_an_animation_shows_every_step_and_rests_on_the_last(tmp_path):
    steps = [tmp_path / f"{step}.png" for step in (1, 2, 3)]
    for step, path in enumerate(steps):
        save(draw_frame(step + 1, brightness=step), path)
    animate(steps, tmp_path / "all.webp")
    with Image.open(tmp_path / "all.webp") as film:
        assert film.n_frames == 3 and film.size == Image.open(steps[0]).size
        times = []
        for step in range(3):
            film.seek(step)
            film.load()
            times.append(film.info["duration"])
    assert times == [500, 500, 2000]


def test_classes_are_named_by_their_first_name_if_they_were_ever_likely():
    figure = draw_classes()
    panels = [axes for axes in figure.axes if axes.get_legend()]
    assert len(panels) == 4 and len(figure.axes) == 4 + 4 * 15
    for panel in panels:
        assert panel.get_legend().get_texts()[0].get_text() == "lemon"
        assert "rare" not in texts(figure) and len(panel.lines) == 5
    lemon = next(line for line in panels[0].lines if line.get_label() == "lemon")
    assert lemon.get_ydata()[-1] == pytest.approx(0.9)


@pytest.mark.parametrize("draw", (draw_emergence, draw_labelled))
def test_prompts_with_dollars_are_no_formulas(draw):
    assert not any(text.get_parse_math() for text in draw().findobj(Text) if "$" in text.get_text())
    assert any("$5" in text for text in texts(draw()))


def test_wrapping_keeps_the_text_and_the_width():
    for text, separator in ((PROMPT, " "), (MODULE, "")):
        lines = wrap(text, 1.5, SMALL)
        assert len(lines) > 1 and separator.join(lines) == text
        assert all(text_width(line, SMALL) <= 1.5 for line in lines)
    assert wrap("short", 1.5, BODY) == ["short"]
    assert wrap("", 1.5, BODY) == [""]
