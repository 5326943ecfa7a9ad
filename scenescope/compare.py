"""Two experiments side by side, for what ``dvc plots diff`` cannot show: python -m scenescope.compare A B.

A and B are what DVC takes as revisions: branches, commits, experiments; or ``workspace``. compare/index.html has the
settings that differ, the scores that differ with their intervals, the difference of the two maps, and both reports
beside each other, in which a step or an image that is chosen in one is chosen in the other.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scenescope.errors import UserError
from scenescope.report.pictures import colour_table

FOLDER = Path("compare")
REPORT, MAP = "plots/report.html", "plots/data/layer_step.csv"


def compare(a: str, b: str) -> Path:
    """Write the page for revisions ``a`` and ``b``; return its path. Raises UserError where one cannot be had."""
    revisions = [rev for rev in (a, b) if rev != "workspace"]
    metrics = asked("metrics", "diff", "--all", "--json", *revisions)
    params = asked("params", "diff", "--json", *revisions)
    reports = {name: read(REPORT, rev) for name, rev in (("a", a), ("b", b))}
    maps = [pd.read_csv(io.BytesIO(read(MAP, rev))) for rev in (a, b)]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("compare.html").render(
        a=a,
        b=b,
        # In order of their names: DVC answers in another order every time.
        params={key: changes[key] for changes in params.values() for key in sorted(changes)},
        metrics={file: changed(dict(sorted(values.items()))) for file, values in sorted(metrics.items())},
        maps=map_difference(*maps),
    )
    FOLDER.mkdir(exist_ok=True)
    for name, report in reports.items():
        (FOLDER / f"{name}.html").write_bytes(report)
    (FOLDER / "index.html").write_text(page, encoding="utf-8")
    return FOLDER / "index.html"


def asked(*words: str) -> dict:
    """What ``dvc`` answers, as JSON."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc {' '.join(words)}: {done.stderr.strip().splitlines()[-1].removeprefix('ERROR: ')}")
    return json.loads(done.stdout)


def read(path: str, rev: str) -> bytes:
    """A file of the project at a revision, from git or DVC's cache; ``workspace`` is what lies there now."""
    try:
        if rev == "workspace":
            return Path(path).read_bytes()
        return dvc.api.read(path, rev=rev, mode="rb")
    except (DvcException, OSError) as error:
        advice = "run dvc repro there, or dvc pull"
        raise UserError(f"{rev}: no {path} ({' '.join(str(error).split())[:120]}); {advice}") from None


def changed(values: dict[str, dict]) -> list[dict]:
    """Of a file's metrics {name: {old, new}}, those that differ: name, old and new with interval, and ``apart``.

    Apart are two whose intervals do not meet.
    """
    rows = []
    for name, change in values.items():
        old, new = change.get("old"), change.get("new")
        if name.endswith(("low", "high")) or shown(old) == shown(new):
            continue
        row = {"name": name, "old": shown(old), "new": shown(new), "apart": False}
        ends = [values[end] for end in interval_of(name) if end in values]
        if len(ends) == 2 and all(isinstance(end.get(of), int | float) for end in ends for of in ("old", "new")):
            (old_low, old_high), (new_low, new_high) = ([end[of] for end in ends] for of in ("old", "new"))
            row["old"] += f" [{shown(old_low)}, {shown(old_high)}]"
            row["new"] += f" [{shown(new_low)}, {shown(new_high)}]"
            row["apart"] = new_low > old_high or new_high < old_low
        rows.append(row)
    return rows


def interval_of(name: str) -> tuple[str, str]:
    """The names of the ends of a metric's interval, if it has one: NAME_low, or ….low beside a step or an accuracy."""
    parent, _, own = name.rpartition(".")
    if own in ("step", "steps") or parent.endswith("accuracy"):
        return f"{parent}.low", f"{parent}.high"
    return f"{name}_low", f"{name}_high"


def shown(value) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else "–" if value is None else str(value)


def map_difference(a: pd.DataFrame, b: pd.DataFrame) -> list[dict]:
    """B's map less A's: by target, the rows of the heat map with a colour for every cell. Empty where none differ.

    Only layers and steps that both have are compared.
    """
    keys = ["target", "layer", "step"]
    pair = a[a["features"] == "network"].merge(b[b["features"] == "network"], on=keys, suffixes=("_a", "_b"))
    pair["difference"] = pair["score_b"] - pair["score_a"]
    most = pair["difference"].abs().max()
    if not most > 0:
        return []
    table = colour_table("RdBu")
    maps = []
    for target, rows in pair.groupby("target", sort=False):
        layers = [
            {
                "layer": layer,
                "cells": [
                    {
                        "step": int(cell.step),
                        "text": f"{cell.difference:+.3f}",
                        "colour": table[round((cell.difference / most + 1) / 2 * (len(table) - 1))],
                    }
                    for cell in of_layer.sort_values("step").itertuples()
                ],
            }
            for layer, of_layer in rows.groupby("layer", sort=False)
        ]
        maps.append({"target": target, "most": f"{most:.2f}", "layers": layers})
    return maps


if __name__ == "__main__":
    try:
        print(f"{compare(*sys.argv[1:3]).absolute()}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
