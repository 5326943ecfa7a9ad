"""Arrays on disk: one zarr array a folder, written shard by shard, resumable, checked when read.

A shard is a run of rows (images) and one file. zarr writes a file under another name and moves it into
place, so a shard is there whole or not at all, and every chunk in it carries a CRC-32C. A stage writes
into a scratch folder named by the fingerprint of all that its result depends on; what a killed run has
finished is found there by the next one, checked, and gone on with. What turns out to be damaged when it is read is
named and deleted: DVC sees that it is gone, and brings it back or computes it again.
"""

import hashlib
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.errors import ContainsArrayError

from scenescope.errors import UserError
from scenescope.parts import WHOLE, Part

SHARD_ROWS = 32  # images in a shard at most: what a killed run can lose
SHARD_BYTES = 2**28  # and bytes: what is held in memory at once


def fingerprint(paths: list[Path], values: Any) -> str:
    """A short hash of the files at or below ``paths`` and of ``values``, a JSON-like object."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts or any(part.startswith(".") for part in file.relative_to(path).parts):
                continue
            digest.update(str(file).encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


@contextmanager
def workspace(output: Path, key: str, owner: str = "", whole: bool = True) -> Iterator[Path]:
    """A scratch folder beside ``output`` to fill; its files become ``output`` when the block ends well, if ``whole``.

    After an error or a kill it stays, and the next call with the same key finds it. It stays after success as well,
    as links that take no room, until ``sweep``: who is killed between here and DVC's record of the output has lost
    nothing. Scratch of other keys, which nothing can resume any more, is removed. Key: see ``fingerprint``.
    """
    root = output.parent / ".scratch"
    scratch = root / f"{output.name}-{key}"
    for stale in root.glob(f"{output.name}-????????????????"):
        if stale != scratch:
            shutil.rmtree(stale)
    scratch.mkdir(parents=True, exist_ok=True)
    yield scratch
    if not whole:
        return
    if output.exists():
        shutil.rmtree(output)
    try:
        shutil.copytree(scratch, output, copy_function=os.link)
    except shutil.Error:  # a file system without hard links, or two of them
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(scratch, output)
    else:
        scratch.with_suffix(".done").write_text(owner)


def sweep(root: Path, owner: str) -> None:
    """Remove the scratch of whatever was finished by another than ``owner``, for DVC has its outputs by now."""
    for mark in root.glob("*.done"):
        if mark.read_text() != owner:
            shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
            mark.unlink()


def fill(
    folder: Path,
    shape: tuple[int, ...],
    dtype: str,
    compute: Callable[[slice], np.ndarray],
    *,
    desc: str,
    batch_size: int = SHARD_ROWS,
    shard_rows: int = SHARD_ROWS,
    columns_apart: bool = False,
    part: Part = WHOLE,
) -> None:
    """Write the array in ``folder`` shard by shard, computing the rows of those that are missing or damaged.

    ``compute`` is asked for at most ``batch_size`` rows at once, and the progress bar moves with every answer.
    With ``columns_apart``, every index of the second axis (steps) is a chunk of its own, so that one step of all
    images can be read without the others. Of the shards, those of the ``part`` are written.
    """
    fill_together(
        {folder: (shape, dtype)},
        lambda rows: (compute(rows),),
        desc=desc,
        batch_size=batch_size,
        shard_rows=shard_rows,
        columns_apart=columns_apart,
        part=part,
    )


def fill_together(
    wanted: dict[Path, tuple[tuple[int, ...], str]],
    compute: Callable[[slice], tuple[np.ndarray, ...]],
    *,
    desc: str,
    batch_size: int = SHARD_ROWS,
    shard_rows: int = SHARD_ROWS,
    columns_apart: bool = False,
    part: Part = WHOLE,
) -> None:
    """``fill`` for several arrays, each of its own shape and dtype, whose rows ``compute`` gives together."""
    (count, *_), _ = next(iter(wanted.values()))
    row_bytes = max(math.prod(shape[1:]) * np.dtype(dtype).itemsize for shape, dtype in wanted.values())
    shard_rows = min(count, shard_rows, max(1, SHARD_BYTES // row_bytes))
    arrays = [_opened(folder, *kind, shard_rows, columns_apart) for folder, kind in wanted.items()]
    mine = part.of(shards(arrays[0]))
    todo = [rows for rows in mine if not all(_is_whole(array, rows) for array in arrays)]
    total, left = (sum(rows.stop - rows.start for rows in some) for some in (mine, todo))
    with tqdm(total=total, initial=total - left, desc=desc) as progress:
        for rows in todo:
            parts = []
            for batch in batches(rows, batch_size):
                parts.append(compute(batch))
                progress.update(batch.stop - batch.start)
            for array, values in zip(arrays, zip(*parts, strict=True), strict=True):
                _file(array, rows).unlink(missing_ok=True)  # zarr would read a damaged one before it writes
                array[rows] = np.concatenate(values)


def _opened(folder: Path, shape: tuple[int, ...], dtype: str, shard_rows: int, columns_apart: bool) -> zarr.Array:
    """The array in a folder, to go on with, or a new one."""
    with suppress(ContainsArrayError):  # from another run, or this moment by another part
        zarr.create_array(
            folder,
            shape=shape,
            dtype=dtype,
            chunks=(shard_rows, 1 if columns_apart else shape[1], *shape[2:]),
            shards=(shard_rows, *shape[1:]),
            serializer=BytesCodec(),
            compressors=[Crc32cCodec()],
            fill_value=0,
        )
    return zarr.open_array(folder, mode="r+").with_config({"write_empty_chunks": True})


def batches(rows: slice, size: int) -> list[slice]:
    """The rows in runs of at most ``size``."""
    return [slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]


def shards(array: zarr.Array) -> list[slice]:
    """The rows of every shard, in order."""
    rows, step = array.shape[0], array.shards[0]
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def missing(array: zarr.Array) -> list[slice]:
    """The rows of the shards that have not been written; a power cut can leave a file without its content."""
    return [rows for rows in shards(array) if not ((file := _file(array, rows)).exists() and file.stat().st_size)]


def _is_whole(array: zarr.Array, rows: slice) -> bool:
    """Whether a shard has been written and is what was written."""
    if rows in missing(array):
        return False
    try:
        array[rows]
    except ValueError:
        return False
    return True


def _file(array: zarr.Array, rows: slice) -> Path:
    index = "/".join([str(rows.start // array.shards[0])] + ["0"] * (array.ndim - 1))
    return Path(array.store.root) / "c" / index


def open_whole(folder: Path) -> zarr.Array:
    """Open a finished array to read.

    Raises UserError where there is none, or a shard of it is missing.
    """
    description = folder / "zarr.json"
    if not description.exists():
        raise UserError(f"{folder}: no array there; run dvc repro")
    try:
        array = zarr.open_array(folder, mode="r")
    except (ValueError, TypeError, KeyError) as error:
        description.unlink()
        raise UserError(f"{folder}: damaged zarr.json ({error}), now deleted; run dvc repro again") from None
    lost = missing(array)
    if lost:
        rows = lost[0]
        raise UserError(f"{folder}: the shard of rows {rows.start} to {rows.stop - 1} is missing; run dvc repro again")
    return array


def read(array: zarr.Array, selection: Any) -> np.ndarray:
    """Read rows of an array. Raises UserError, naming the folder and rows, where a checksum does not match."""
    try:
        return np.asarray(array[selection])
    except ValueError:
        damaged = [rows for rows in shards(array) if not _is_whole(array, rows)]
    for rows in damaged:
        _file(array, rows).unlink(missing_ok=True)
    named = ", ".join(f"{rows.start} to {rows.stop - 1}" for rows in damaged)
    raise UserError(
        f"{array.store.root}: what holds rows {named} was damaged and is deleted now; run dvc repro again"
    ) from None


def read_step(array: zarr.Array, rows: np.ndarray, step: int) -> np.ndarray:
    """Rows, in ascending order, of an array [N, steps, …] at one step. Raises as ``read``."""
    near = slice(rows[0], rows[-1] + 1)  # in one piece: picked rows would be read with all of their steps
    return read(array, (near, step))[rows - rows[0]]


def write_npz(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays into one .npz file, which is there whole or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **arrays)
    os.replace(partial, file)


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file. Raises UserError where it is missing or damaged; a damaged one is deleted."""
    try:
        with np.load(file) as stored:
            return dict(stored)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; run dvc repro") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        file.unlink()
        raise UserError(f"{file}: damaged, now deleted; run dvc repro again") from None


def has_npz(file: Path) -> bool:
    """Whether a .npz file is there and undamaged."""
    with suppress(UserError):
        return bool(read_npz(file))
    return False
