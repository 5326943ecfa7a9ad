"""Arrays on disk survive a kill, tell when they are damaged, and are the same bytes every time."""

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenescope import store
from scenescope.errors import UserError
from scenescope.parts import parse

KEYS = ["0123456789abcdef", "fedcba9876543210"]
DATA = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)


def fill(folder, data=DATA, shard_rows=2, compute=None, **options):
    """Fill a folder with ``data``; returns the rows that had to be computed, as pairs."""
    asked = []

    def rows_of(rows):
        asked.append((rows.start, rows.stop))
        return (compute or data.__getitem__)(rows)

    store.fill(folder, data.shape, data.dtype.name, rows_of, desc="test", shard_rows=shard_rows, **options)
    return asked


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def first_shard(folder):
    return folder / "c/0/0/0"


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "array")
    return tmp_path / "array"


@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 3)).flatmap(
        lambda head: st.lists(st.integers(1, 3), max_size=2).map(lambda tail: (*head, *tail))
    ),
    dtype=st.sampled_from(["bool", "uint8", "int64", "float16", "float32", "float64"]),
    shard_rows=st.integers(1, 4),
    columns_apart=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_filled_is_read_again_from_one_file_a_shard(shape, dtype, shard_rows, columns_apart, seed):
    data = np.random.default_rng(seed).integers(-3, 3, shape).clip(0 if dtype == "uint8" else -3).astype(dtype)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "array"
        asked = fill(folder, data, shard_rows, columns_apart=columns_apart)
        array = store.open_whole(folder)
        found = store.read(array, slice(None))
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data)
        np.testing.assert_array_equal(store.read(array, (slice(1, 3), -1)), data[1:3, -1])
        files = contents(folder)
    step = min(shard_rows, len(data))
    assert asked == [(start, min(start + step, len(data))) for start in range(0, len(data), step)]
    assert len(files) == len(asked) + 1 and "zarr.json" in files


def test_values_that_are_not_numbers_come_back_too(tmp_path):
    data = np.array([[np.nan, np.inf], [-np.inf, -0.0]], np.float16)
    fill(tmp_path / "array", data)
    assert store.read(store.open_whole(tmp_path / "array"), slice(None)).tobytes() == data.tobytes()


def until_row(last):
    def compute(rows):
        if rows.start >= last:
            raise RuntimeError("killed")
        return DATA[rows]

    return compute


def test_the_next_run_computes_only_what_a_broken_one_left_out(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        fill(tmp_path, compute=until_row(4))
    with pytest.raises(UserError, match="rows 4 to 4"):
        store.open_whole(tmp_path)
    assert fill(tmp_path) == [(4, 5)]
    assert fill(tmp_path) == []
    np.testing.assert_array_equal(store.read(store.open_whole(tmp_path), slice(None)), DATA)


@pytest.mark.parametrize(
    "lose",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:50]),
        lambda file: file.write_bytes(flipped(0.3)(file.read_bytes())),
    ],
    ids=["deleted", "emptied", "truncated", "flipped"],
)
def test_a_lost_shard_in_the_middle_is_computed_again(folder, lose):
    lose(folder / "c/1/0/0")
    assert fill(folder) == [(2, 4)]
    np.testing.assert_array_equal(store.read(store.open_whole(folder), slice(None)), DATA)


def test_a_shard_of_zeros_is_written_and_not_taken_for_missing(tmp_path):
    data = np.zeros((4, 2), bool)
    fill(tmp_path / "array", data)
    assert len(contents(tmp_path / "array")) == 3
    assert fill(tmp_path / "array", data) == []
    assert not store.read(store.open_whole(tmp_path / "array"), slice(None)).any()


def test_the_same_data_are_the_same_bytes_with_or_without_a_break(tmp_path, folder):
    with suppress(RuntimeError):
        fill(tmp_path / "again", compute=until_row(2))
    assert fill(tmp_path / "again") == [(2, 4), (4, 5)]
    assert contents(tmp_path / "again") == contents(folder)


@pytest.mark.parametrize("shard, rows", [(0, "rows 0 to 1"), (1, "rows 2 to 3"), (2, "rows 4 to 4")])
def test_a_missing_shard_is_named_by_folder_and_rows(folder, shard, rows):
    (folder / f"c/{shard}/0/0").unlink()
    with pytest.raises(UserError, match=rows) as caught:
        store.open_whole(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_an_array_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no array"):
        store.open_whole(tmp_path)


def flipped(share):
    def flip(content):
        place = int(len(content) * share)
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return flip


@pytest.mark.parametrize(
    "harm",
    [
        *(pytest.param(flipped(share), id=f"flipped-{share}") for share in (0, 0.3, 0.79, 0.83, 0.99)),
        *(pytest.param(lambda c, n=n: c[:n], id=f"cut-to-{n}") for n in (0, 1, 4, 60, -1)),
        pytest.param(lambda content: content + b"\0", id="longer"),
    ],
)
@pytest.mark.parametrize("file", ["c/0/0/0", "zarr.json"])
def test_damage_is_an_error_that_names_the_folder_and_never_other_numbers(folder, file, harm):
    path = folder / file
    path.write_bytes(harm(path.read_bytes()))
    try:
        found = store.read(store.open_whole(folder), slice(None))
    except UserError as error:
        assert str(folder) in str(error) and "dvc repro" in str(error) and "\n" not in str(error)
        assert not path.exists() or not harm(path.read_bytes()), "what is damaged is gone, and DVC sees that it is"
    else:
        assert file == "zarr.json", "a shard is checked byte by byte"
        np.testing.assert_array_equal(found, DATA)


def test_one_step_is_read_without_the_others(tmp_path):
    fill(tmp_path / "apart", columns_apart=True)
    file = first_shard(tmp_path / "apart")
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    array = store.open_whole(tmp_path / "apart")
    np.testing.assert_array_equal(store.read(array, (slice(None), 1)), DATA[:, 1])
    with pytest.raises(UserError, match="damaged"):
        store.read(array, (slice(None), 0))


def test_a_workspace_takes_the_place_of_the_output_only_when_it_ends_well(tmp_path):
    output = tmp_path / "images"
    output.mkdir()
    (output / "old").touch()
    with store.workspace(output, KEYS[0]) as scratch:
        (scratch / "new").touch()
        assert [file.name for file in output.iterdir()] == ["old"]
    assert [file.name for file in output.iterdir()] == ["new"]


def test_finished_work_is_found_again_until_another_stage_sweeps_it(tmp_path):
    output = tmp_path / "images"
    with store.workspace(output, KEYS[0], "generate") as scratch:
        (scratch / "new").write_text("x")
    (output / "new").unlink()  # as DVC does when it had no time to record the output
    store.sweep(scratch.parent, "generate")
    with store.workspace(output, KEYS[0], "generate") as scratch:
        assert [file.name for file in scratch.iterdir()] == ["new"]
    assert (output / "new").samefile(scratch / "new"), "it takes no room of its own"
    store.sweep(scratch.parent, "label depth")
    assert not list(scratch.parent.iterdir()) and (output / "new").read_text() == "x"


def test_parts_fill_what_one_run_fills(tmp_path, folder):
    parts = [parse(f"{k}/3") for k in (3, 1, 2)]
    assert [fill(tmp_path / "parts", part=part) for part in parts] == [[(4, 5)], [(0, 2)], [(2, 4)]]
    assert fill(tmp_path / "parts") == []
    assert contents(tmp_path / "parts") == contents(folder)


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_is_none_is_an_error_that_shows_one(text):
    with pytest.raises(UserError, match="expected K/N"):
        parse(text)


def test_a_part_leaves_its_workspace_to_the_whole(tmp_path):
    with store.workspace(tmp_path / "images", KEYS[0], whole=False) as scratch:
        (scratch / "mine").touch()
    assert not (tmp_path / "images").exists()
    with store.workspace(tmp_path / "images", KEYS[0]) as scratch:
        (scratch / "others").touch()
    assert {file.name for file in (tmp_path / "images").iterdir()} == {"mine", "others"}


def break_off(output, key, file):
    with suppress(KeyboardInterrupt), store.workspace(output, key) as scratch:
        (scratch / file).touch()
        raise KeyboardInterrupt


def test_a_broken_workspace_leaves_the_output_alone_and_is_found_by_the_same_key(tmp_path):
    output = tmp_path / "images"
    output.mkdir()
    (output / "old").touch()
    break_off(output, KEYS[0], "half")
    assert [file.name for file in output.iterdir()] == ["old"]
    with store.workspace(output, KEYS[0]) as scratch:
        assert [file.name for file in scratch.iterdir()] == ["half"]


def test_another_key_drops_the_scratch_of_this_output_only(tmp_path):
    break_off(tmp_path / "images", KEYS[0], "half")
    break_off(tmp_path / "images_too", KEYS[0], "half")
    with store.workspace(tmp_path / "images", KEYS[1]) as scratch:
        assert not list(scratch.iterdir())
        assert [folder.name for folder in scratch.parent.glob(f"*{KEYS[0]}")] == [f"images_too-{KEYS[0]}"]


@pytest.mark.parametrize(
    "change, matters",
    [
        (lambda root: (root / "a/x.bin").write_bytes(b"2"), True),
        (lambda root: (root / "a/more.bin").write_bytes(b""), True),
        (lambda root: (root / "a/x.bin").rename(root / "a/y.bin"), True),
        (lambda root: (root / "single").write_bytes(b"2"), True),
        (lambda root: (root / "a/.hidden").write_bytes(b"2"), False),
        (lambda root: shutil.copytree(root / "a", root / "a/__pycache__"), False),
    ],
    ids=["content", "added", "renamed", "single file", "hidden", "bytecode"],
)
def test_a_fingerprint_changes_with_what_a_result_depends_on(tmp_path, change, matters):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.bin").write_bytes(b"1")
    (tmp_path / "single").write_bytes(b"1")
    paths = [tmp_path / "a", tmp_path / "single"]
    before = store.fingerprint(paths, {"seed": 0})
    assert len(before) == len(KEYS[0])
    change(tmp_path)
    assert (store.fingerprint(paths, {"seed": 0}) != before) is matters


def test_a_fingerprint_depends_on_values_but_not_on_their_order():
    assert store.fingerprint([], {"a": 1, "b": 2}) == store.fingerprint([], {"b": 2, "a": 1})
    assert store.fingerprint([], {"a": 1, "b": 2}) != store.fingerprint([], {"a": 1, "b": 3})


def test_a_shard_is_computed_batch_by_batch(tmp_path):
    assert fill(tmp_path, shard_rows=3, batch_size=2) == [(0, 2), (2, 3), (3, 5)]
    assert np.array_equal(store.read(store.open_whole(tmp_path), slice(None)), DATA)


@pytest.mark.parametrize(
    "harm", [lambda c: c[:100], flipped(0.5), lambda c: b""], ids=["truncated", "flipped", "empty"]
)
def test_a_damaged_npz_is_named_and_deleted(tmp_path, harm):
    file = tmp_path / "step_001.npz"
    store.write_npz(file, {"a": DATA})
    np.testing.assert_array_equal(store.read_npz(file)["a"], DATA)
    assert store.has_npz(file)
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(UserError, match=f"{file}: damaged"):
        store.read_npz(file)
    assert not store.has_npz(file) and not file.exists()
