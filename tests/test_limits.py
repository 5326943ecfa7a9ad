"""What a machine lacks is said in one line, and memory does not grow with the number of images."""

import shutil
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import ROOT, Study

from scenescope import store
from scenescope.errors import UserError
from scenescope.layers import attention_layers
from scenescope.settings import load_model_settings, load_params, part_config
from stages import common, devices, prompts


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device_named("auto") == "cpu"
    with pytest.raises(UserError, match="device: cuda, but PyTorch sees no GPU here; use auto or cpu"):
        devices.device_named("cuda")


@pytest.mark.parametrize(("size", "advice"), [(8, "with 8 at once; set it to 4"), (1, "a GPU with more memory")])
def test_out_of_gpu_memory_says_what_to_set(size, advice):
    with pytest.raises(UserError) as caught, devices.fitting("generate.batch_size", size):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert str(caught.value).startswith("params.yaml: generate.batch_size: out of GPU memory")
    assert advice in str(caught.value)


def test_a_full_disk_is_said_before_anything_is_computed(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    # dec4_l1 of SD v1.4 for the paper's 617 images.
    with pytest.raises(UserError, match=r"needs 48\.5 GB of disk, 1\.0 GB are free"):
        common.check_disk(tmp_path / "activations", (617, 15, 4096, 320), "float16")
    common.check_disk(tmp_path / "small", (10, 15, 64, 64), "float16")


SD_UNET = {
    "in_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}


def test_the_whole_study_is_counted_before_it_starts(study, monkeypatch):
    settings = load_model_settings(ROOT / "models" / "sd14")
    activations, latents, pixels = 15 * 4096 * 320 * 2, 31 * 4 * 64 * 64 * 4, 512 * 512 * (3 + 1 + 4 + 4)
    found = prompts.study_bytes(617, settings, SD_UNET, {"block_out_channels": [128, 256, 512, 512]})
    assert found == 617 * (activations + latents + pixels)

    monkeypatch.chdir(study.home)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(UserError, match=r"data: the study of \d+ images, .* needs .* of disk, 1\.0 MB are free"):
        prompts.prompts(load_params())
    assert not (study.home / "data").exists()


def test_a_shard_holds_as_many_rows_as_memory_allows(tmp_path):
    """Rows of SD v1.4's activations are 39 MB each: fewer of them make a shard."""
    asked = []

    def rows_of(rows: slice) -> np.ndarray:
        asked.append(rows.stop - rows.start)
        return np.zeros((rows.stop - rows.start, 15, 4096 * 320), np.float16)

    store.fill(tmp_path, (8, 15, 4096 * 320), "float16", rows_of, desc="test", columns_apart=True)
    assert asked == [6, 2]


PEAK = """
import importlib, resource, sys
name = sys.argv[1]
sys.argv = [f"stages/{name}.py"]
stage = importlib.import_module(f"stages.{name}")
if name == "ridge":
    stage.kept_if_small.__defaults__ = (0,)  # no room for features: they are computed again for every pass
stage.run_in_parts(getattr(stage, name))
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def study_of_noise(home, count: int, steps: int) -> Study:
    """A study of tabletop whose trajectories, predictions and labels are noise."""
    home.mkdir()
    study = Study.new(home)
    study.shrink(prompts=count, validation=count // 10, test=count // 2, steps=steps)
    study.run(sys.executable, "-m", "stages.prompts")
    rng = np.random.default_rng(0)
    for name, dtype, *row in (
        ("trajectories", "float32", steps + 1, 4, 16, 16),
        ("predictions", "float32", steps, 4, 16, 16),
        ("labels/saliency", "bool", 64, 64),
        ("labels/depth", "float32", 64, 64),
        ("labels/shading", "float32", 64, 64),
    ):

        def noise(rows: slice, dtype=dtype, row=row) -> np.ndarray:
            values = rng.standard_normal((rows.stop - rows.start, *row), np.float32)
            return values > 0 if dtype == "bool" else values

        store.fill(home / "data" / name, (count, *row), dtype, noise, desc=name)
    return study


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "counts", "steps"), [("capture", (64, 224), 6), ("ridge", (300, 600), 1)])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, stage, counts, steps):
    peaks = []
    for count in counts:  # the smaller is enough to warm up what allocates memory
        study = study_of_noise(tmp_path / str(count), count, steps)
        peaks.append(1024 * int(study.run(sys.executable, "-c", PEAK, stage).rsplit("peak", 1)[1]))
    layers = attention_layers(part_config(ROOT / "models/tabletop", "unet"))
    values = {layer.name: steps * layer.grid(16) ** 2 * layer.channels for layer in layers}
    kept = {"capture": 2 * values["dec4_l1"], "ridge": 4 * sum(values.values())}  # bytes an image, if they were kept
    more = (counts[1] - counts[0]) * kept[stage]
    assert peaks[1] - peaks[0] < more / 4, (peaks, more)
