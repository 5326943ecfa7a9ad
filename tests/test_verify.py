"""What make verify finds different, and what it lets pass."""

import json

from scenescope.verify import differences, numbers, within


def write(home, **files):
    (home / "metrics" / "probe").mkdir(parents=True)
    for name, values in files.items():
        (home / "metrics" / f"{name.replace('_', '/')}.json").write_text(json.dumps(values))


def test_every_number_is_compared_and_named(tmp_path):
    values = {"depth": {"step": 3, "last": 0.5, "low": None, "layer": "dec4_l1"}}
    write(tmp_path / "a", onset=values, probe_depth={"last": 0.25})
    write(tmp_path / "b", onset={"depth": {**values["depth"], "last": 0.51}}, probe_depth={"last": 0.25, "more": 1})
    assert differences(tmp_path / "a", tmp_path / "a") == []
    assert differences(tmp_path / "a", tmp_path / "b") == [
        ("metrics/onset.json: depth.last", 0.5, 0.51),
        ("metrics/probe/depth.json: more", None, 1),
    ]
    assert dict(numbers(values)) == {"depth.step": 3, "depth.last": 0.5, "depth.low": None}


def test_scores_may_differ_a_little_and_steps_by_one():
    assert within(0.5, 0.515) and not within(0.5, 0.53)
    assert within(3, 4) and not within(3, 5)
    assert within(None, None) and not within(None, 0.0) and not within(3, None)
