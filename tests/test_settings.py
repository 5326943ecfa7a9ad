"""Settings are checked before anything runs, and every mistake is one line that names the file and the key."""

import json
import re
from pathlib import Path

import pytest
import yaml

from scenescope.errors import UserError
from scenescope.settings import TARGETS, Params, load_model_settings, load_params, parse, part_config, with_own

ROOT = Path(__file__).parents[1]
CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
# A U-Net in the shape of Stable Diffusion's, each block a hundredth as wide.
UNET = {
    "block_out_channels": [4, 8, 16, 16],
    "layers_per_block": 2,
    "down_block_types": [kind.format("Down") for kind in (CROSS, CROSS, CROSS, PLAIN)],
    "up_block_types": [kind.format("Up") for kind in (PLAIN, CROSS, CROSS, CROSS)],
}
MODEL = {
    "source": ".",
    "image_size": 64,
    "steps": 15,
    "guidance": 7.5,
    "dtype": "float32",
    "batch_size": 8,
    "prompts": "prompts/x.csv",
    "labels": {"saliency": "x", "depth": "x", "shading": "x"},
    "classifier": "x",
    "classes": "prompts/y.csv",
}
PARAMS = {
    "model": "tiny",
    "device": "cpu",
    "compute": {"engine": "local", "workers": 2},
    "prompts": {"source": "prompts/x.csv", "validation": 4, "test": 3, "seed": 0},
    "labels": {"saliency": "auto", "depth": "auto", "shading": "auto"},
    "generate": {"batch_size": 1},
    "label": {"batch_size": "auto"},
    "capture": {"batch_size": 3},
    "probe": {
        "layer": "dec4_l1",
        "solver": "adam",
        "epochs": 30,
        "batch_size": 4,
        "learning_rate": {"saliency": 0.001, "depth": 0.001, "shading": 1},
        "seed": 0,
    },
    "ridge": {"batch_size": "auto", "folds": 5, "penalties": [0.01, 10], "splits": 2, "seed": 0},
    "onset": {"share": 0.9, "batch_size": 4},
    "classify": {"prompts": "auto", "classifier": "auto", "batch_size": 8},
    "scores": {"resamples": 100, "seed": 0},
    "figures": {"images": 3},
    "report": {"images": 3},
}
REMOVED = object()


def changed(values, key, value):
    """A copy of nested settings with one key, written with dots, set or removed."""
    values = json.loads(json.dumps(values))
    *parents, last = key.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    if value is REMOVED:
        del inner[last]
    else:
        inner[last] = value
    return values


def write_model(folder, settings=MODEL, config=UNET):
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(yaml.safe_dump(settings))
    (folder / "unet/config.json").write_text(json.dumps(config))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one small model and good settings, as the working directory."""
    monkeypatch.chdir(tmp_path)
    write_model(Path("models/tiny"))
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    return tmp_path


def refused(start, load=load_params):
    """The message of the error, after checks that all errors have to pass."""
    with pytest.raises(UserError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(start), message
    assert len(message.splitlines()) == 1
    return message


def test_good_settings_are_read_as_they_are_written(project):
    own = {"labels": MODEL["labels"], "label.batch_size": 8, "ridge.batch_size": 8}
    own |= {"classify.prompts": "prompts/y.csv", "classify.classifier": "x"}
    expected = PARAMS
    for key, value in own.items():
        expected = changed(expected, key, value)
    assert load_params().model_dump() == expected
    assert load_model_settings(Path("models/tiny")).model_dump(exclude_unset=True) == MODEL


def test_the_committed_settings_are_good(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    model = yaml.safe_load((ROOT / "models" / committed["model"] / "model.yaml").read_text())
    write_model(Path("models") / committed["model"], model)
    read = parse(Params, ROOT / "params.yaml")
    assert read.model_dump() == committed
    assert load_params(ROOT / "params.yaml") == with_own(read, load_model_settings(ROOT / "models" / read.model))
    assert load_model_settings(ROOT / "models" / committed["model"]).model_dump(exclude_unset=True) == model
    assert tuple(committed["probe"]["learning_rate"]) == tuple(model["labels"]) == TARGETS


@pytest.mark.skipif(not (ROOT / "models/tabletop/unet/config.json").exists(), reason="needs the embedded model")
def test_the_embedded_model_has_the_probed_layer(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_params().model == "tabletop"


WRONG_PARAMS = [
    ("probe.solver", "sgd", "'adam' or 'lbfgs'", "got 'sgd'"),
    ("probe.epochs", "thirty", "valid integer", "got 'thirty'"),
    ("probe.epochs", 30.0, "valid integer", "got 30.0"),
    ("probe.epochs", True, "valid integer", "got True"),
    ("probe.epochs", 0, "greater than or equal to 1", "got 0"),
    ("probe.seed", -1, "greater than or equal to 0", "got -1"),
    ("probe.seed", 2**63, "less than", f"got {2**63}"),
    ("probe.learning_rate.depth", "1e-4", "valid number", "got '1e-4'"),
    ("probe.learning_rate.depth", 0, "greater than 0", "got 0"),
    ("probe.learning_rate.depth", float("inf"), "finite number", "got inf"),
    ("probe.learning_rate.depth", float("nan"), "got nan"),
    ("probe.learning_rate", 0.1, "dictionary", "got 0.1"),
    ("probe", None, "dictionary", "got None"),
    ("prompts.source", 5, "valid string", "got 5"),
    ("prompts.test", [1], "valid integer", "got [1]"),
    ("device", "gpu", "'auto', 'cpu' or 'cuda'", "got 'gpu'"),
    ("ridge.folds", 1, "greater than or equal to 2", "got 1"),
    ("ridge.penalties", [], "at least 1 item", "got []"),
    ("ridge.penalties", 10, "valid list", "got 10"),
    ("onset.share", 1.5, "less than or equal to 1", "got 1.5"),
    ("onset.share", 0, "greater than 0", "got 0"),
    ("scores.resamples", 0, "greater than or equal to 1"),
    ("figures.images", 1.5, "valid integer", "got 1.5"),
    ("generate.batch_size", "8\n9", "auto or a whole number", r"got '8\n9'"),
]


@pytest.mark.parametrize("key, value, parts", [(case[0], case[1], case[2:]) for case in WRONG_PARAMS])
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(project, key, value, parts):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, key, value)))
    message = refused(f"params.yaml: {key}: ")
    assert all(part in message for part in parts), message


def test_a_wrong_item_of_a_list_is_named_by_its_place(project):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, "ridge.penalties", [1, -1])))
    assert "greater than 0, got -1" in refused("params.yaml: ridge.penalties.1: ")


def test_a_rate_that_yaml_reads_as_text_is_refused_as_text(project):
    text = yaml.safe_dump(changed(PARAMS, "probe.learning_rate.shading", 0.125))
    Path("params.yaml").write_text(text.replace("0.125", "1e-4"))
    assert "valid number, got '1e-4'" in refused("params.yaml: probe.learning_rate.shading: ")
    Path("params.yaml").write_text(text.replace("0.125", "1.0e-4"))
    assert load_params().probe.learning_rate.shading == 1e-4


@pytest.mark.parametrize(
    "key, meant",
    [
        ("devise", "device"),
        ("probe.epoch", "epochs"),
        ("probe.learning_rate.dept", "depth"),
        ("capture.batchsize", "batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_key_most_like_it(project, key, meant):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, key, 1)))
    assert refused(f"params.yaml: unknown key {key} ").endswith(f"(did you mean {meant}?)")


def test_an_unknown_key_like_no_other_is_answered_with_all_keys(project):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, "scores.zzz", 1)))
    assert refused("params.yaml: unknown key scores.zzz ").endswith("(one of resamples, seed)")


@pytest.mark.parametrize("key", ["device", "probe", "probe.layer", "probe.learning_rate.shading", "ridge.penalties"])
def test_a_missing_key_is_named(project, key):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, key, REMOVED)))
    assert refused(f"params.yaml: the key {key} is missing")


@pytest.mark.parametrize(
    "content, part",
    [
        (b"model: [tiny\ndevice: cpu\n", "line 2"),
        (b"model: tiny\n\tdevice: cpu\n", "line 2"),
        (b"model: tiny\nmodel: a: b\n", "line 2"),
        (b"seed: 2024-13-45\n", "not valid YAML"),
        (b"model: caf\xe9\n", "utf-8"),
        (b"model: a\0b\n", "not valid YAML"),
        (b"", "got None"),
        (b"- model\n- device\n", "got ['model', 'device']"),
        (b"just words\n", "got 'just words'"),
    ],
)
def test_a_file_that_is_no_table_of_settings_is_refused(project, content, part):
    Path("params.yaml").write_bytes(content)
    assert part in refused("params.yaml: ")


def test_a_missing_file_is_named(project):
    Path("params.yaml").unlink()
    assert refused("params.yaml: no such file")


def test_an_unknown_model_is_answered_with_the_one_most_like_it(project):
    write_model(Path("models/other"))
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, "model", "tinny")))
    assert refused("params.yaml: model: no folder models/tinny ").endswith("(did you mean tiny?)")
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, "model", "zzz")))
    assert refused("params.yaml: model: no folder models/zzz ").endswith("(one of other, tiny)")


@pytest.mark.parametrize("layer, meant", [("dec9_l9", r"dec\d_l\d"), ("dec4_l4", r"dec4_l\d"), ("mid", "mid_l1")])
def test_an_unknown_layer_is_answered_with_one_that_the_model_has(project, layer, meant):
    Path("params.yaml").write_text(yaml.safe_dump(changed(PARAMS, "probe.layer", layer)))
    message = refused(f"params.yaml: probe.layer: tiny has no layer '{layer}' ")
    assert re.search(rf"\(did you mean {meant}\?\)$", message)


def test_a_layer_is_looked_for_in_the_model_that_is_named(project):
    shallow = {**UNET, "block_out_channels": [4, 8], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}
    write_model(Path("models/shallow"), config={**shallow, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]})
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "model": "shallow"}))
    assert "did you mean dec2_l1?" in refused("params.yaml: probe.layer: shallow has no layer 'dec4_l1'")


WRONG_MODELS = [
    ("image_size", 60, "multiple of 8", "got 60"),
    ("image_size", 0, "greater than or equal to 8", "got 0"),
    ("steps", 0, "greater than or equal to 1", "got 0"),
    ("steps", 1001, "less than or equal to 1000", "got 1001"),
    ("guidance", 0.5, "greater than or equal to 1", "got 0.5"),
    ("guidance", "7,5", "valid number", "got '7,5'"),
    ("dtype", "float23", "'float32', 'float16' or 'bfloat16'", "got 'float23'"),
    ("labels.depth", 3, "valid string", "got 3"),
    ("labels", ["depth"], "dictionary", "got ['depth']"),
]


@pytest.mark.parametrize("key, value, parts", [(case[0], case[1], case[2:]) for case in WRONG_MODELS])
def test_a_wrong_value_of_a_model_is_named_with_the_models_file(project, key, value, parts):
    write_model(Path("models/tiny"), changed(MODEL, key, value))
    message = refused(f"models/tiny/model.yaml: {key}: ")
    assert all(part in message for part in parts), message


def test_a_models_missing_and_unknown_keys_are_named(project):
    write_model(Path("models/tiny"), changed(MODEL, "labels.depth", REMOVED))
    assert refused("models/tiny/model.yaml: the key labels.depth is missing")
    write_model(Path("models/tiny"), changed(MODEL, "guidence", 3))
    assert refused("models/tiny/model.yaml: unknown key guidence ").endswith("(did you mean guidance?)")


def test_a_model_without_a_unet_is_refused_by_the_key_that_points_at_it(project):
    write_model(Path("models/tiny"), {**MODEL, "source": "weights"})
    assert "models/tiny/weights/unet/config.json" in refused("models/tiny/model.yaml: source: no file ")


def test_a_unet_configuration_that_is_no_json_is_named(project):
    Path("models/tiny/unet/config.json").write_text('{"layers_per_block": 2,\n')
    told = refused("models/tiny/unet/config.json: ", lambda: part_config(Path("models/tiny"), "unet"))
    assert "not valid JSON" in told
