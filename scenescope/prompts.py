"""Read a prompts file, or a list of published ones; check every row, and split it by prompt."""

import csv
import io
import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from scenescope import weights
from scenescope.errors import UserError, nearest
from scenescope.settings import Strict, parse

# Our names for columns, and the reference studies' names for the same.
COLUMNS = {"prompts": "prompt", "seeds": "seed", "prompt_inds": "prompt_id"}
KNOWN = ("prompt_id", "prompt", "seed", "split", "class")
SPLITS = ("train", "validation", "test")


class Published(Strict):
    """A prompts file that others publish, and the split that its rows belong to."""

    url: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    split: Literal["train", "validation", "test"]


class PromptList(Strict):
    """Prompts files by URL, as one."""

    files: Annotated[list[Published], Field(min_length=1)]


def read_prompts(path: Path) -> pd.DataFrame:
    """Read a prompts file: a CSV (see ``read_csv``), or in YAML a ``PromptList`` of CSVs by URL.

    Returns columns prompt_id (str), prompt, seed (int), and split if the file says it. Raises UserError with
    the file, the row (as numbered by a spreadsheet) and what was expected.
    """
    if path.suffix != ".yaml":
        return read_csv(path)
    parts = []
    for published in parse(PromptList, path).files:
        table = read_csv(weights.fetch(published.url, published.sha256))
        parts.append(table.assign(split=published.split))
    table = pd.concat(parts, ignore_index=True)
    twice = table["prompt_id"][table["prompt_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: prompt_id {twice.iloc[0]!r} is in two of the files")
    return table


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV in UTF-8 with a header: prompt, seed, and optionally prompt_id, split and class.

    Returns and raises as ``read_prompts``.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, row {row}: not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}, row {text[: text.index(chr(0))].count(chr(10)) + 1}: contains a NUL character")
    lines = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
            lines.append(cells)
    except csv.Error as error:
        raise UserError(f"{path}, row {len(lines) + 1}: {error}; is a quotation mark missing or too many?") from None
    names = (" ".join(cell.split()) for cell in (lines or [[]])[0])
    header = [COLUMNS.get(name, name) for name in names]
    for name in ("prompt", "seed"):
        if name not in header:
            raise UserError(
                f"{path}: no column {name!r}; found {', '.join(header) or 'nothing'}{nearest(name, header)}"
            )
    for name in KNOWN:
        if header.count(name) > 1:
            raise UserError(f"{path}: the column {name!r} is there twice")
    known = [name for name in KNOWN if name in header]
    columns, seen = {name: [] for name in ("prompt_id", *known)}, {}
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise UserError(f"{path}, row {number}: {len(cells)} cells, expected {len(header)}")
        row = dict(zip(header, cells, strict=True))
        row.setdefault("prompt_id", f"{len(seen):06d}")
        _check(row, f"{path}, row {number}", seen)
        seen[row["prompt_id"]] = number
        for name, column in columns.items():
            column.append(row[name])
    if not seen:
        raise UserError(f"{path}: no prompts below the header")
    return pd.DataFrame(columns | {"seed": [int(seed) for seed in columns["seed"]]})


def read_classes(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV of prompts that name a class: as ``read_csv``, with a column class, each of it one of ``names``."""
    table = read_csv(path)
    if "class" not in table:
        raise UserError(f"{path}: no column 'class', which says what the classifier should see")
    for row, name in zip(table["prompt_id"], table["class"], strict=True):
        if names.count(name) != 1:
            problem = "is the name of several classes" if name in names else f"is no class{nearest(name, names)}"
            raise UserError(f"{path}: prompt_id {row}: {name!r} {problem} of the classifier")
    return table


_SEED, _NAME = re.compile(r"\d{1,19}"), re.compile(r"[A-Za-z0-9_-]{1,64}")


def _check(row: dict[str, str], where: str, seen: dict[str, int]) -> None:
    if not row["prompt"].strip():
        raise UserError(f"{where}: the prompt is empty")
    if not _SEED.fullmatch(row["seed"]) or int(row["seed"]) >= 2**63:
        raise UserError(f"{where}: seed {row['seed']!r} is not a whole number from 0 to 2^63 - 1")
    if not _NAME.fullmatch(row["prompt_id"]):
        raise UserError(f"{where}: prompt_id {row['prompt_id']!r} must be letters, digits, - and _: it names a file")
    if row["prompt_id"] in seen:
        raise UserError(f"{where}: prompt_id {row['prompt_id']!r} is already in row {seen[row['prompt_id']]}")
    if row.get("split", SPLITS[0]) not in SPLITS:
        raise UserError(f"{where}: unknown split {row['split']!r}{nearest(row['split'], SPLITS)}")


def split_prompts(table: pd.DataFrame, validation: int, test: int, seed: int) -> pd.DataFrame:
    """Add the column split: so many rows for validation and test, the rest for training.

    Where the file brought a split it is kept, and validation alone is carved from training if it has none.
    Rows with the same prompt go to the same split, since images of one prompt resemble each other.
    Returns columns prompt_id, prompt, seed, split, in the file's order.
    """
    room = {"test": test, "validation": validation}
    if "split" not in table:
        table = table.assign(split="train")
    else:
        room = {} if "validation" in table["split"].values else {"validation": validation}
    groups, prompts = defaultdict(list), table["prompt"].tolist()
    for row in np.flatnonzero(table["split"] == "train"):
        groups[prompts[row]].append(row)
    count = sum(map(len, groups.values()))
    if count and count <= sum(room.values()):
        wanted = " + ".join(f"prompts.{name}" for name in reversed(room))
        raise UserError(
            f"params.yaml: {wanted} = {sum(room.values())} leave nothing to train on: there are {count} prompts"
        )
    split, groups = table["split"].to_numpy(object, copy=True), list(groups.values())
    order = np.random.default_rng(seed).permutation(len(groups))
    for name in room:
        for group in order:
            if not room[name]:
                break
            if split[groups[group][0]] == "train" and len(groups[group]) <= room[name]:
                split[groups[group]] = name
                room[name] -= len(groups[group])
    table = table.assign(split=split)
    counts = table["split"].value_counts()
    for name in SPLITS:
        if not counts.get(name):
            raise UserError(f"prompts: the split {name!r} is empty")
    return table[["prompt_id", "prompt", "seed", "split"]]
