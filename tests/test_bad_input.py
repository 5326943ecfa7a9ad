"""Bad input, as a user makes it: each ends in one line that names it, exit code 1, and nothing written.

All of these are known before anything is computed: the first stage says them.
"""

import json
import shutil
import time

import pytest
import torch
import yaml
from conftest import ROOT, Study
from safetensors.torch import load_file, save_file

from scenescope import diffusion
from scenescope.errors import UserError
from stages import common, prompts

TABLE = "prompts/tabletop.csv"
MINE = "models/mine/model.yaml"
HEADER = "prompt_id,prompt,seed\n"
ROWS = "".join(f"a{i},a red cube {i},{i}\n" for i in range(18))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small study with a second model, models/mine, a copy of tabletop without its weights."""
    study = Study.new(tmp_path_factory.mktemp("bad"))
    study.shrink()
    shutil.copytree(
        study.home / "models/tabletop", study.home / "models/mine", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return study.home


def said(capsys, seconds=10):
    """What the first stage prints when it stops, in a good way and in so many seconds of computing at most."""
    start = time.process_time()  # a busy machine is no failure
    with pytest.raises(SystemExit) as stopped:
        common.run(prompts.prompts)
    printed = capsys.readouterr()
    assert stopped.value.code == 1 and time.process_time() - start < seconds
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
    return printed.err.removeprefix("error: ").strip()


def setting(key, value):
    """An edit of a YAML file: a key, written with dots, set to a value, or removed."""

    def edit(path):
        values = yaml.safe_load(path.read_text())
        *parents, last = key.split(".")
        inner = values
        for parent in parents:
            inner = inner[parent]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
        path.write_text(yaml.safe_dump(values))

    return edit


def text(content):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


# File, edit, and what the line must say.
CASES = [
    *(
        ("params.yaml", setting(key, value), [f"params.yaml: {key}: ", expected])
        for key, value, expected in [
            ("model", 3, "valid string"),
            ("compute.engine", "spark", "'local' or 'ray'"),
            ("compute.workers", 0, "greater than or equal to 1"),
            ("device", "gpu", "'auto', 'cpu' or 'cuda'"),
            ("prompts.source", 1, "valid string"),
            ("prompts.validation", 0, "greater than or equal to 1"),
            ("prompts.validation", "many", "valid integer"),
            ("prompts.test", 2.5, "valid integer"),
            ("prompts.seed", -1, "greater than or equal to 0"),
            ("labels.saliency", 1, "valid string"),
            ("labels.depth", ["midas"], "valid string"),
            ("labels.shading", True, "valid string"),
            ("generate.batch_size", 0, "auto or a whole number"),
            ("label.batch_size", "all", "auto or a whole number"),
            ("capture.batch_size", 1.5, "auto or a whole number"),
            ("probe.layer", 4, "valid string"),
            ("probe.layer", "dec4_l9", "did you mean dec4_l"),
            ("probe.solver", "sgd", "'adam' or 'lbfgs'"),
            ("probe.epochs", -1, "greater than or equal to 1"),
            ("probe.batch_size", "auto", "valid integer"),
            ("probe.learning_rate.saliency", 0, "greater than 0"),
            ("probe.learning_rate.depth", "1e-3", "valid number"),
            ("probe.learning_rate.shading", float("nan"), "got nan"),
            ("probe.seed", 2**64, "less than"),
            ("ridge.batch_size", -4, "auto or a whole number"),
            ("ridge.folds", 1, "greater than or equal to 2"),
            ("ridge.penalties", [], "at least 1 item"),
            ("ridge.penalties", 10, "valid list"),
            ("ridge.splits", 0, "greater than or equal to 1"),
            ("ridge.seed", "zero", "valid integer"),
            ("onset.share", 1.1, "less than or equal to 1"),
            ("onset.share", 0, "greater than 0"),
            ("onset.batch_size", False, "auto or a whole number"),
            ("classify.prompts", 7, "valid string"),
            ("classify.classifier", 16, "valid string"),
            ("classify.batch_size", "8", "auto or a whole number"),
            ("scores.resamples", 0, "greater than or equal to 1"),
            ("scores.seed", -1, "greater than or equal to 0"),
            ("figures.images", 0, "greater than or equal to 1"),
            ("report.images", 0, "greater than or equal to 1"),
            ("model", "tabeltop", "did you mean tabletop?"),
            ("prompts.source", "elsewhere/p.csv", "not below prompts/"),
            ("classify.prompts", "/etc/hosts", "not below prompts/"),
        ]
    ),
    *(
        ("params.yaml", setting(f"{key}", value), [f"params.yaml: unknown key {key} (did you mean {meant}?)"])
        for key, value, meant in [
            ("modell", "tabletop", "model"),
            ("prompts.tests", 3, "test"),
            ("probe.layers", "dec4_l1", "layer"),
            ("ridge.penalty", 1, "penalties"),
            ("onset.shares", 1, "share"),
        ]
    ),
    ("params.yaml", setting("probe.epochs", None), ["params.yaml: the key probe.epochs is missing"]),
    ("params.yaml", text("model: [tabletop\n"), ["params.yaml: not valid YAML"]),
    ("params.yaml", text(""), ["params.yaml: file: ", "dictionary"]),
    ("params.yaml", setting("labels.depth", "midass"), ["no label model 'midass' (did you mean midas?)"]),
    ("params.yaml", setting("labels.depth", "tracer"), ["tracer labels saliency, not depth"]),
    ("params.yaml", setting("labels.depth", "midas:gone"), ["no file or folder gone"]),
    ("params.yaml", setting("classify.classifier", "vgg"), ["no classifier 'vgg' (did you mean vgg16?)"]),
    ("params.yaml", setting("prompts.test", 18), ["prompts.validation + prompts.test = 21", "there are 18 prompts"]),
    (TABLE, lambda path: path.unlink(), [f"{TABLE}: no such file"]),
    (TABLE, text("prompt_id,prompt\na,b\n"), ["no column 'seed'"]),
    (TABLE, text("prompt_id,promt,seed\na,b,1\n"), ["no column 'prompt'", "did you mean promt?"]),
    (TABLE, text((HEADER + "a,ein grüner Würfel,1\n").encode("latin-1")), ["row 2: not UTF-8"]),
    (TABLE, text((HEADER + ROWS).encode("utf-16")), ["row 1: not UTF-8"]),
    (TABLE, text(HEADER + "a,red\0cube,1\n"), ["row 2: contains a NUL"]),
    (TABLE, text(HEADER + "a,red cube,-1\n"), ["row 2: seed '-1'"]),
    (TABLE, text(HEADER + f"a,red cube,{2**64}\n"), [f"row 2: seed '{2**64}'"]),
    (TABLE, text(HEADER + "a,red cube,1\na,blue cube,2\n"), ["row 3: prompt_id 'a' is already in row 2"]),
    (TABLE, text(HEADER + "a, ,1\n"), ["row 2: the prompt is empty"]),
    (TABLE, text(HEADER + "../a,red cube,1\n"), ["row 2: prompt_id '../a'"]),
    (TABLE, text(HEADER + "a,a red, cube,1\n"), ["row 2: 4 cells, expected 3"]),
    (TABLE, text(HEADER), ["no prompts below the header"]),
    ("prompts/classes_tabletop.csv", text("prompt,seed\nred cube,1\n"), ["no column 'class'"]),
    (
        "prompts/classes_tabletop.csv",
        text("prompt,seed,class\na,1,red cub\n"),
        ["is no class (did you mean red cube?)"],
    ),
    ("models/tabletop/model.yaml", lambda path: path.unlink(), ["model: no folder models/tabletop with a model.yaml"]),
    ("models/tabletop/model.yaml", setting("steps", 0), ["model.yaml: steps: ", "greater than or equal to 1"]),
    ("models/tabletop/model.yaml", setting("guidance", 0.5), ["guidance", "greater than or equal to 1"]),
    ("models/tabletop/model.yaml", setting("image_size", 65), ["image_size", "multiple of 8"]),
    ("models/tabletop/model.yaml", setting("dtype", "half"), ["dtype"]),
    ("models/tabletop/model.yaml", setting("guidence", 2), ["unknown key guidence (did you mean guidance?)"]),
    ("models/tabletop/model.yaml", setting("classes", None), ["the key classes is missing"]),
    ("models/tabletop/model.yaml", setting("source", "gone"), ["source: no file"]),
    ("models/tabletop/unet/config.json", text("{"), ["config.json: not valid JSON"]),
    (
        "models/tabletop/unet/config.json",
        lambda path: path.write_text(
            json.dumps(
                json.loads(path.read_text())
                | {"down_block_types": ["DownBlock2D"] * 4, "up_block_types": ["UpBlock2D"] * 4, "mid_block_type": None}
            )
        ),
        ["models/tabletop: its U-Net has no self-attention layers"],
    ),
    ("models/tabletop/model_index.json", lambda path: path.unlink(), ["no file", "model_index.json"]),
    (
        "models/tabletop/unet/diffusion_pytorch_model.safetensors",
        lambda path: path.rename(path.with_suffix(".bin")),
        ["no file", "unet/diffusion_pytorch_model.safetensors", "without pickle"],
    ),
    ("models/tabletop/vae/diffusion_pytorch_model.safetensors", lambda path: path.unlink(), ["no file", "vae"]),
]


def test_there_are_many_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize(("file", "edit", "told"), CASES, ids=[f"{i:02d}" for i in range(len(CASES))])
def test_bad_input_is_one_line_and_nothing_is_written(home, monkeypatch, capsys, file, edit, told):
    monkeypatch.chdir(home)
    path = home / file
    before, listed = path.read_bytes(), sorted(path.parent.iterdir())
    try:
        edit(path)
        line = said(capsys)
        assert all(part in line for part in told), line
        assert not (home / "data").exists() and not (home / "metrics").exists()
    finally:
        for new in set(path.parent.iterdir()) - set(listed):
            new.unlink()
        path.write_bytes(before)


@pytest.mark.parametrize(
    "content",
    [
        (HEADER + ROWS).encode("utf-8-sig"),
        (HEADER + ROWS).replace("\n", "\r\n").encode(),
        b"seed,prompt,prompt_id\n" + b"".join(f"{i},a red cube {i},a{i}\n".encode() for i in range(18)),
        (HEADER + ROWS + "long," + "red " * 2500 + ",5\n").encode(),
    ],
    ids=("byte order mark", "Windows line ends", "columns in another order", "a prompt of 10,000 characters"),
)
def test_unusual_input_that_is_good_is_read(home, monkeypatch, content):
    monkeypatch.chdir(home)
    before = (home / TABLE).read_bytes()
    try:
        (home / TABLE).write_bytes(content)
        common.run(prompts.prompts)
        assert len(common.read_table()) in (18, 19)
    finally:
        (home / TABLE).write_bytes(before)
        shutil.rmtree(home / "data", ignore_errors=True)


def test_a_million_prompts_are_checked_in_seconds(home, monkeypatch, capsys):
    """And stop the study where there is no room for what they would leave."""
    monkeypatch.chdir(home)
    before = (home / TABLE).read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, 10**11))
    try:
        lines = (f"p{i},a red cube number {i},{i}\n" for i in range(10**6))
        (home / TABLE).write_text(HEADER + "".join(lines))
        assert "the study of 1000000 images" in said(capsys, seconds=30)
    finally:
        (home / TABLE).write_bytes(before)


def test_weights_that_are_not_numbers_are_named(home, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "models/tabletop", folder)
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"][3] = torch.nan
    save_file(weights, file)
    with pytest.raises(UserError, match=r"unet: conv_in\.bias holds numbers that are not finite"):
        diffusion.open_model(str(folder), image_size=64, steps=2, guidance=1.0, dtype="float32", device="cpu")


def test_an_image_of_another_size_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.IMAGES.mkdir(parents=True)
    common.Image.new("RGB", (32, 64)).save(common.IMAGES / "a.png")
    (common.IMAGES / "b.png").write_bytes(b"no picture")
    for name, told in (("a", "32 × 64 pixels, expected 64 × 64"), ("b", "damaged, now deleted"), ("c", "no such file")):
        with pytest.raises(UserError, match=f"data/images/{name}.png: {told}"):
            common.read_images([name], 64)
