"""What docs/ shows is what the committed run made."""

import hashlib

import yaml
from conftest import ROOT


def test_the_committed_page_is_that_of_the_committed_run():
    """docs/report.html is a copy, as DVC keeps the page out of git: it must not fall behind."""
    (out,) = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["report"]["outs"]
    assert out["path"] == "plots/report.html"
    found = hashlib.md5((ROOT / "docs/report.html").read_bytes()).hexdigest()
    assert found == out["md5"], "docs/report.html is stale: cp plots/report.html docs/report.html after dvc repro"


def test_the_animation_of_the_readme_loads_at_once():
    assert (ROOT / "docs/steps.webp").stat().st_size <= 2_000_000
