"""The rendered scenes that tabletop's models are trained on and tested with.

A dataset is a pure function of its first seed and its length, so it is never stored for keeps: stages
that need it share a copy in a scratch folder, or render it again.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scenescope.tabletop.render import BATCH, Renders, render
from scenescope.tabletop.scenes import SHAPES, Scene, held_out, sample_scene

TEST_SEED = 10_000_000  # scenes of the test renders start here, far from those of training


def scenes_for(first_seed: int, count: int, keep_held_out: bool) -> list[Scene]:
    """The first ``count`` scenes from ``first_seed`` on, without the combinations held out of training."""
    scenes, seed = [], first_seed
    while len(scenes) < count:
        scene = sample_scene(seed)
        if keep_held_out or not held_out(scene.words):
            scenes.append(scene)
        seed += 1
    return scenes


def rendered(scenes: list[Scene], size: int, cache: Path) -> Renders:
    """Render scenes, or read them from ``cache``, a folder that only this function writes."""
    names = [field.name for field in fields(Renders)]
    if not (cache / "done").exists():
        cache.mkdir(parents=True, exist_ok=True)
        order = sorted(range(len(scenes)), key=lambda i: SHAPES.index(scenes[i].words.shape))
        files = {}
        for start in tqdm(range(0, len(order), BATCH * 8), desc=f"render {len(scenes)} scenes"):
            rows = order[start : start + BATCH * 8]
            part = render([scenes[i] for i in rows], size)
            for name in names:
                value = getattr(part, name)
                value = value.astype(np.float16) if value.dtype == np.float32 else value
                if name not in files:
                    shape = (len(scenes), *value.shape[1:])
                    files[name] = np.lib.format.open_memmap(cache / f"{name}.npy", "w+", value.dtype, shape)
                files[name][rows] = value
        for file in files.values():
            file.flush()
        (cache / "done").touch()
    return Renders(**{name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in names})
