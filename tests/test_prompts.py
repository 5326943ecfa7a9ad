"""Prompts files are read as people write them, refused in one line, and split so that no prompt is in two splits."""

import csv
import io
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenescope.errors import UserError
from scenescope.prompts import read_prompts, split_prompts
from scenescope.tabletop.scenes import TEMPLATES, all_words, held_out

# The folder is the same for all examples: each writes its own file over the last.
QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLETOP = Path(__file__).parents[1] / "prompts/tabletop.csv"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a file's text or bytes where it is read as prompts.csv."""
    monkeypatch.chdir(tmp_path)
    path = Path("prompts.csv")
    return lambda content: (path.write_bytes(content if isinstance(content, bytes) else content.encode()), path)[1]


GOOD = [
    pytest.param("prompt_id,prompt,seed\na1,a cube,5\nb-2,a cone,0\n", id="plain"),
    pytest.param("prompts,seeds,prompt_inds\na cube,5,a1\na cone,0,b-2\n", id="reference names"),
    pytest.param("seed,prompt,prompt_id\n5,a cube,a1\n0,a cone,b-2\n", id="reordered"),
    pytest.param("prompt_id,prompt,seed\r\na1,a cube,5\r\nb-2,a cone,0\r\n", id="Windows line ends"),
    pytest.param("\ufeffprompt_id,prompt,seed\na1,a cube,5\nb-2,a cone,0\n", id="byte order mark"),
    pytest.param("prompt_id, prompt ,seed\na1,a cube,5\nb-2,a cone,0", id="spaces in header, no last line end"),
    pytest.param('"prompt_id","prompt","seed"\n"a1","a cube","5"\n\n"b-2","a cone","0"\n', id="quoted, blank line"),
    pytest.param("note,prompt_id,prompt,seed,\nx,a1,a cube,5,\ny,b-2,a cone,0,\n", id="more columns"),
]


@pytest.mark.parametrize("text", GOOD)
def test_every_usual_way_to_write_a_table_reads_the_same(written, text):
    table = read_prompts(written(text))
    assert list(table) == ["prompt_id", "prompt", "seed"]
    assert table.values.tolist() == [["a1", "a cube", 5], ["b-2", "a cone", 0]]


@pytest.mark.parametrize(
    "cell, prompt",
    [
        ('"""ZIGGY"" - EASY, ARMCHAIR"', '"ZIGGY" - EASY, ARMCHAIR'),
        ("Fenêtre à Séville – café ☕", "Fenêtre à Séville – café ☕"),
        ('"two\nlines"', "two\nlines"),
        ('an 8" plate', 'an 8" plate'),
        (" spaces stay ", " spaces stay "),
        ("x" * 500, "x" * 500),
    ],
)
def test_a_prompt_comes_through_to_the_letter(written, cell, prompt):
    table = read_prompts(written(f"prompts,seeds,prompt_inds\n{cell},64140790,5246271\n"))
    assert table.to_dict("records") == [{"prompt_id": "5246271", "prompt": prompt, "seed": 64140790}]


def test_rows_without_an_id_are_numbered(written):
    assert read_prompts(written("prompt,seed\na,1\na,2\n"))["prompt_id"].tolist() == ["000000", "000001"]


def test_the_largest_seed_stays_exact(written):
    assert read_prompts(written(f"prompt,seed\na,{2**63 - 1}\n"))["seed"].tolist() == [2**63 - 1]


BAD = [
    ("prompt\na\n", "prompts.csv: no column 'seed'; found prompt"),
    ("promt,seed\na,1\n", "prompts.csv: no column 'prompt'", "did you mean promt?"),
    ("", "prompts.csv: no column 'prompt'; found nothing"),
    ('"two\nlines",seed\na,1\n', "prompts.csv: no column 'prompt'; found two lines, seed"),
    ("prompt,seed\n", "prompts.csv: no prompts below the header"),
    ("prompt,prompts,seed\na,b,1\n", "prompts.csv: the column 'prompt' is there twice"),
    ("prompt,seed,prompt_id\na,1,x\n\nb,2,x\n", "prompts.csv, row 4: prompt_id 'x' is already in row 2"),
    ("prompt,seed,prompt_id\na,1,x/y\n", "prompts.csv, row 2: prompt_id 'x/y'", "letters, digits, - and _"),
    ("prompt,seed,prompt_id\na,1,\n", "prompts.csv, row 2: prompt_id ''"),
    ("prompt,seed\na,1\n  ,2\n", "prompts.csv, row 3: the prompt is empty"),
    ('prompt,seed\n"two\nlines",1\n,2\n', "prompts.csv, row 3: the prompt is empty"),
    ("prompt,seed\na,1\ncafé,2\n".encode("latin-1"), "prompts.csv, row 3: not UTF-8"),
    ("prompt,seed\na,1\n".encode("utf-16"), "prompts.csv, row 1: not UTF-8"),
    ("prompt,seed\na,1\nb\0,2\n", "prompts.csv, row 3: contains a NUL"),
    ("prompt,seed\na,-1\n", "prompts.csv, row 2: seed '-1'", "0 to 2^63 - 1"),
    (f"prompt,seed\na,{2**64}\n", f"prompts.csv, row 2: seed '{2**64}'", "0 to 2^63 - 1"),
    (f"prompt,seed\na,{2**63}\n", f"prompts.csv, row 2: seed '{2**63}'"),
    ("prompt,seed\na,1.0\n", "prompts.csv, row 2: seed '1.0' is not a whole number"),
    ('prompt,seed\na,"1\n2"\n', r"prompts.csv, row 2: seed '1\n2'"),
    ("prompt,seed\na,\n", "prompts.csv, row 2: seed ''"),
    ("prompt,seed\na,1\na big, red cube,2\n", "prompts.csv, row 3: 3 cells, expected 2"),
    ("prompt,seed\na\n", "prompts.csv, row 2: 1 cells, expected 2"),
    ("prompt,seed,split\na,1,valid\n", "prompts.csv, row 2: unknown split 'valid'", "did you mean validation?"),
    ("prompt,seed,split\na,1,\n", "prompts.csv, row 2: unknown split ''"),
    ('seed,prompt\n1,a\n2,"never closed\n3,b\n4,c\n', "prompts.csv, row 3: ", "quotation mark"),
    ('prompt,seed\n"a" b,1\n', "prompts.csv, row 2: ", "quotation mark"),
]


@pytest.mark.parametrize("content, start, parts", [(case[0], case[1], case[2:]) for case in BAD])
def test_what_cannot_be_read_is_refused_in_one_line_with_its_row(written, content, start, parts):
    with pytest.raises(UserError) as caught:
        read_prompts(written(content))
    message = str(caught.value)
    assert message.startswith(start) and all(part in message for part in parts)
    assert len(message.splitlines()) == 1


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
good = st.fixed_dictionaries(
    {
        "prompt": text.filter(str.strip),
        "seed": st.integers(0, 2**63 - 1),
        "prompt_id": st.text("abcXYZ019_-", min_size=1, max_size=10),
        "split": st.sampled_from(["train", "validation", "test"]),
        "note": text,  # a column that is not ours
    }
)


@QUICK
@given(
    st.lists(good, min_size=1, max_size=8, unique_by=lambda row: row["prompt_id"]),
    st.permutations(["prompt", "seed", "prompt_id", "split", "note"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_whatever_a_spreadsheet_can_write_comes_back_as_it_was(written, rows, columns, end, encoding):
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, columns, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    table = read_prompts(written(content.getvalue().encode(encoding)))
    for column in ("prompt", "seed", "prompt_id", "split"):
        assert table[column].tolist() == [row[column] for row in rows]


lines = st.lists(st.lists(st.one_of(text, st.just("1"), st.just("a chair")), max_size=3).map(",".join), max_size=5)


@QUICK
@given(st.one_of(st.binary(max_size=60), lines.map(lambda below: "\n".join(["prompt,seed", *below]).encode())))
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(written, content):
    try:
        table = read_prompts(written(content))
    except UserError as error:
        assert len(str(error).splitlines()) == 1, str(error)
    else:
        assert len(table) and table["prompt"].str.strip().all() and (table["seed"] >= 0).all()


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no such file"):
        read_prompts(Path("nowhere.csv"))


def table_of(prompts, **columns):
    ids = [f"p{i}" for i in range(len(prompts))]
    return pd.DataFrame({"prompt_id": ids, "prompt": prompts, "seed": range(len(prompts)), **columns})


sizes = st.tuples(*[st.integers(1, 8)] * 3)
seeds = st.integers(0, 2**63 - 1)


@QUICK
@given(sizes, seeds)
def test_splits_of_unique_prompts_have_exactly_the_sizes_asked_for(asked, seed):
    train, validation, test = asked
    table = table_of([f"prompt {i}" for i in range(sum(asked))])
    split = split_prompts(table, validation, test, seed)
    assert split["split"].value_counts().to_dict() == {"train": train, "validation": validation, "test": test}
    pd.testing.assert_frame_equal(split.drop(columns="split"), table)


@QUICK
@given(st.lists(st.integers(0, 9), min_size=12, max_size=30), st.integers(2, 5), st.integers(2, 5), seeds)
def test_a_prompt_is_never_in_two_splits(prompts, validation, test, seed):
    try:
        split = split_prompts(table_of([f"prompt {i}" for i in prompts]), validation, test, seed)
    except UserError as error:
        assert "is empty" in str(error)
        return
    assert (split.groupby("prompt")["split"].nunique() == 1).all()
    counts = split["split"].value_counts()
    assert counts["validation"] <= validation and counts["test"] <= test


def test_repeated_prompts_still_fill_the_splits():
    split = split_prompts(table_of([f"prompt {i // 2}" for i in range(20)]), validation=4, test=6, seed=0)
    assert split["split"].value_counts().to_dict() == {"train": 10, "validation": 4, "test": 6}
    assert (split.groupby("prompt")["split"].nunique() == 1).all()


def test_a_split_depends_on_its_seed_alone():
    table = table_of([f"prompt {i}" for i in range(30)])
    first, again, other = (split_prompts(table, 5, 10, seed)["split"].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_split_that_the_file_brings_is_kept():
    own = ["test", "train", "validation", "train"]
    split = split_prompts(table_of(list("abcd"), split=own), validation=40, test=40, seed=0)
    assert split["split"].tolist() == own


@pytest.mark.parametrize("name", ["train", "test"])
def test_an_empty_split_is_refused(name):
    others = [other for other in ("train", "validation", "test") if other != name]
    with pytest.raises(UserError, match=f"the split '{name}' is empty"):
        split_prompts(table_of(list("ab"), split=others), 1, 1, 0)


def test_a_files_split_is_kept_and_validation_is_carved_from_its_training_rows():
    given = ["train", "test", "train", "train", "test", "train"]
    table = split_prompts(table_of(list("abcdef"), split=given), 2, 99, 0)
    assert (table["split"] == "test").tolist() == [name == "test" for name in given]
    assert (table["split"] == "validation").sum() == 2
    with pytest.raises(UserError, match=r"prompts.validation = 4 leave nothing to train on: there are 4 prompts"):
        split_prompts(table_of(list("abcdef"), split=given), 4, 99, 0)


def test_asking_for_every_prompt_is_refused():
    with pytest.raises(UserError, match=r"prompts.validation \+ prompts.test = 10 .* there are 10 prompts"):
        split_prompts(table_of(list("abcdefghij")), 4, 6, 0)


def test_tabletops_prompts_are_617_and_new_to_its_model():
    table = read_prompts(TABLETOP)
    assert len(table) == table["prompt"].nunique() == table["prompt_id"].nunique() == 617
    words = {words.caption(template): words for words, template in product(all_words(), range(len(TEMPLATES)))}
    assert all(held_out(words[prompt]) for prompt in table["prompt"])
