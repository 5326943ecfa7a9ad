"""What stages share: how one runs, where the pipeline's files lie, and how they are read and written."""

import json
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from scenescope import store
from scenescope.disk import check_room
from scenescope.errors import UserError, of_the_disk
from scenescope.parts import WHOLE, Part
from scenescope.settings import Params, load_params

PROMPTS = Path("data/prompts.csv")
IMAGES = Path("data/images")
TRAJECTORIES = Path("data/trajectories")
PREDICTIONS = Path("data/predictions")
MAP = Path("data/map")
SEEN = Path("data/onset")
LABELS = Path("data/labels")
ACTIVATIONS = Path("data/activations")
PROBES = Path("data/probes")
CLASSIFIED = Path("data/classify")


def run(stage: Callable[[Params], None]) -> None:
    """Run a stage on params.yaml. All of the file is checked first; bad input ends in one line and exit code 1."""
    try:
        for folder in (Path("data"), LABELS):
            store.sweep(folder / ".scratch", owner())
        stage(load_params())
    except UserError as error:
        problem = str(error)
    except OSError as error:  # the disk: full, read-only, gone
        problem = of_the_disk(error)
    else:
        return
    print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(1)


def owner() -> str:
    """The stage that runs, with its target if it has one, but whichever part of it."""
    words = [Path(sys.argv[0]).stem, *sys.argv[1:]]
    return " ".join(words[: words.index("--part")] if "--part" in words else words)


def workspace(output: Path, depends: list[Path], values: Any, part: Part = WHOLE) -> AbstractContextManager[Path]:
    """Scratch that becomes ``output``, resumable while the files depended on, the code and the values stay the same.

    Of a part that is not the whole, it stays scratch.
    """
    key = store.fingerprint([*depends, Path("scenescope"), Path("stages")], values)
    return store.workspace(output, key, owner(), part.whole)


def check_disk(output: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Raise UserError unless there is room for an array, and for the second copy that DVC's cache may keep."""
    check_room(output, 2 * math.prod(shape) * np.dtype(dtype).itemsize, "what is asked for, with DVC's copy of it,")


def read_table() -> pd.DataFrame:
    """data/prompts.csv: prompt_id, prompt, seed, split."""
    return pd.read_csv(PROMPTS, dtype={"prompt_id": str, "prompt": str, "split": str}, keep_default_na=False)


def read_images(prompt_ids: list[str], size: int) -> np.ndarray:
    """uint8 images [N, size, size, 3]. Raises UserError where one cannot be read or is of another size."""
    images = []
    for name in prompt_ids:
        file = IMAGES / f"{name}.png"
        try:
            image = np.asarray(Image.open(file).convert("RGB"))
        except OSError as error:
            problem = "no such file"
            if not isinstance(error, FileNotFoundError):
                problem = "damaged, now deleted"
                file.unlink()
            raise UserError(f"{file}: {problem}; run dvc repro again") from None
        if image.shape[:2] != (size, size):
            raise UserError(f"{file}: {image.shape[1]} × {image.shape[0]} pixels, expected {size} × {size}")
        images.append(image)
    return np.stack(images)


def split_rows(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The row numbers of every split."""
    return {split: np.flatnonzero(table["split"] == split) for split in ("train", "validation", "test")}


def write_metrics(name: str, values: dict) -> None:
    """metrics/NAME.json, numbers to five digits. An undefined number is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, float):
            return None if math.isnan(value) else round(value, 5)
        return value

    path = Path("metrics") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(values), indent=2) + "\n")


def write_series(name: str, rows: list[dict]) -> None:
    """plots/data/NAME.csv: a row a step, numbered from 1."""
    path = Path("plots/data") / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([{"step": step, **row} for step, row in enumerate(rows, start=1)])
    table.to_csv(path, index=False, float_format="%.5f", lineterminator="\n")
