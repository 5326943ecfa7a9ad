"""From the tables of earlier stages to what the figures and the templates of ``dvc plots`` show."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import vl_convert
import yaml
from dvc_render import VegaRenderer
from dvc_render.vega_templates import TEMPLATES
from test_figures import layer_step

from scenescope.bootstrap import Resamples
from scenescope.figures.by_step import CONTROLS, PROBES
from scenescope.figures.heatmap import CONTROLS as SHOWN
from scenescope.figures.onset import ROWS
from scenescope.figures.style import COLOURS, TARGETS
from scenescope.onset import tabulate
from scenescope.probes.table import ABOVE
from scenescope.tables import curves_by_step, score_table

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".dvc" / "plots"


def probe_series(steps=15):
    series = {}
    for target in TARGETS:
        names = ["dice"] if target == "saliency" else ["spearman", "pearson"]
        values = {name + end: 0.3 for name in names for end in ("", "_low", "_high")}
        series[target] = pd.DataFrame({"step": range(1, steps + 1), **values})
    return series


def test_curves_take_ridge_and_random_weights_at_the_probed_layer():
    table = layer_step()
    curves = curves_by_step(probe_series(), table, "dec2_l1").set_index(["target", "method", "step"])
    assert len(curves) == len(TARGETS) * 5 * 15
    cells = table.set_index(["features", "layer", "target", "step"])
    for target in TARGETS:
        sources = {"ridge": ("network", "dec2_l1"), "random": ("random", "dec2_l1")}
        sources |= {method: (method, "-") for method in ("position", "mean_map")}
        for method, source in sources.items():
            for step in (1, 15):
                wanted = cells.loc[(*source, target, step), ["score", "score_low", "score_high"]]
                assert curves.loc[(target, method, step)].tolist() == wanted.tolist()
        assert curves.loc[(target, "probe", 7)].tolist() == [0.3] * 3


def test_table2_has_ridge_at_the_probed_layer_and_the_last_step():
    table = layer_step()
    paper, probe, ridge = score_table("ours", probe_series(), table, "mid_l1").to_dict("records")
    assert (paper["published"], probe["published"], ridge["published"]) == (True, False, False)
    assert probe["depth_pearson"] == "0.30 [0.30, 0.30]"
    rows = table[(table.features == "network") & (table.layer == "mid_l1") & (table.step == 15)].set_index("target")
    low, high = rows.score_low["saliency"], rows.score_high["saliency"]
    assert ridge["saliency_dice"] == f"{rows.score['saliency']:.2f} [{low:.2f}, {high:.2f}]"
    low, high = rows.pearson_low["shading"], rows.pearson_high["shading"]
    assert ridge["shading_pearson"] == f"{rows.pearson['shading']:.2f} [{low:.2f}, {high:.2f}]"


def plots(definition):
    """All plots that a dvc.yaml defines, by name, with what it says about them."""
    of_stages = [stage.get("do", stage).get("plots", []) for stage in definition["stages"].values()]
    for entries in (*of_stages, definition["plots"]):
        for entry in entries:
            yield from (entry.items() if isinstance(entry, dict) else [(entry, {})])


def test_every_template_is_used_and_every_one_used_is_there():
    used = {how["template"] for _, how in plots(yaml.safe_load((ROOT / "dvc.yaml").read_text())) if "template" in how}
    assert used - {template.DEFAULT_NAME for template in TEMPLATES} == {path.stem for path in FOLDER.iterdir()}


def series(template, steps=2):
    """A table as a template of dvc plots gets it."""
    table = layer_step(steps=steps)
    for other in ("selectivity", "splits_low", "splits_high"):
        table[other] = 0.0
    if template == "by_step":
        table = curves_by_step(probe_series(steps), table, "mid_l1")
    if template == "onset":
        table = tabulate({"probe": {"depth": np.ones((2, steps))}}, 0.9, Resamples(2, 10, 0))
    return table


def filled_template(template, y, table, revisions):
    """A template of dvc plots, filled with the same table for each of some revisions."""
    rows = table.astype(str).to_dict("records")
    points = [{**row, "rev": revision} for revision in revisions for row in rows]
    how = {"template": template, "template_dir": FOLDER, "x": "step", "y": y, "title": "a title"}
    return VegaRenderer(points, "plot", **how).get_filled_template()


@pytest.mark.parametrize(
    ("template", "y"),
    [("layer_step", "layer"), ("layer_step_above", "layer"), ("by_step", "score"), ("onset", "score")],
)
def test_templates_fit_the_tables(template, y):
    table = series(template)
    filled = filled_template(template, y, table, ["workspace"])
    points = [{**row, "rev": "workspace"} for row in table.astype(str).to_dict("records")]
    assert filled["data"]["values"] == points and filled["title"]["text"] == "a title"
    text = json.dumps({key: value for key, value in filled.items() if key != "data"})
    assert "<DVC_METRIC" not in text
    calculated = set(re.findall(r'"as": "([^"]+)"', text))
    read = set(re.findall(r"datum\.(\w+)|datum\['(\w+)'\]", text.replace("datum.value", "")))
    read = {name for pair in read for name in pair if name} | set(re.findall(r'"field": "([^"]+)"', text))
    assert read <= calculated | {"rev", *table.columns} and {"step", "target"} <= read


def drawn(template, y, revisions):
    """What ``dvc plots diff`` shows of revisions, as SVG, by Vega-Lite 5.8; the page lets a browser fetch 5.2."""
    return ElementTree.fromstring(
        vl_convert.vegalite_to_svg(filled_template(template, y, series(template), revisions), vl_version="5.8")
    )


def groups(svg, role):
    """All groups of one of Vega's roles, and where each of them stands."""
    for group in svg.iterfind(".//{*}g"):
        if role in group.get("class", "").split():
            for part in group.findall("{*}g"):
                yield [float(number) for number in re.findall(r"[-\d.]+", part.get("transform"))], part


def test_the_cells_of_a_diff_are_those_of_their_row_and_column():
    revisions = ["workspace", "b-branch", "HEAD"]  # as DVC gives them, and not by the alphabet
    cells = {}
    for (left, top), cell in groups(drawn("layer_step_above", "layer", revisions), "cell"):
        told = [mark.get("aria-label", "") for mark in cell.iterfind(".//{*}path")]
        told = {re.search(r"rev: (\S+); target: (\w+)", text).groups() for text in told if "rev:" in text}
        (cells[top, left],) = told
    assert [cells[place] for place in sorted(cells)] == [(rev, target) for rev in revisions for target in TARGETS]


@pytest.mark.parametrize(("template", "bands"), [("by_step", 2 * len(TARGETS)), ("onset", 1)])
def test_every_revision_of_a_diff_has_its_own_bands_and_a_line_in_the_legend(template, bands):
    svg = drawn(template, "score", ["workspace", "HEAD"])
    areas = [path for path in svg.iterfind(".//{*}path") if path.get("aria-roledescription") == "area mark"]
    assert len(areas) == 2 * bands
    legend = [path for _, entry in groups(svg, "role-legend-entry") for path in entry.iterfind(".//{*}path[@stroke]")]
    assert all(line.get("stroke") != "transparent" for line in legend)
    assert len({line.get("stroke-dasharray") for line in legend} - {None}) == 2


def test_templates_know_all_methods_colours_and_controls():
    colour = json.loads((FOLDER / "by_step.json").read_text())["spec"]["encoding"]["color"]["scale"]
    assert dict(zip(colour["domain"], colour["range"], strict=True)) == {
        name: COLOURS[name] for name in PROBES | CONTROLS
    }
    colour = json.loads((FOLDER / "onset.json").read_text())["spec"]["encoding"]["color"]["scale"]
    assert dict(zip(colour["domain"], colour["range"], strict=True)) == {row: look[1] for row, look in ROWS.items()}
    (choice,) = json.loads((FOLDER / "layer_step_above.json").read_text())["params"]
    assert set(choice["bind"]["options"]) == set(ABOVE) >= set(SHOWN)
    assert choice["value"] in ABOVE
