"""Text files: what is read, and how each bad file is refused."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.data.text import Examples, load_dataset, read_lines, read_text, read_tsv
from minispike.errors import ConfigError, DataError, ShapeError

ROWS = "text\tlabel\ngood film\tpos\nbad film\tneg\n"
CELLS = st.text(st.characters(exclude_characters="\t\n\r\ufeff", codec="utf-8"), min_size=1).filter(str.strip)


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def many_rows(count: int, labels: int = 2) -> str:
    return "text\tlabel\n" + "".join(f"text number {i}\t{i % labels}\n" for i in range(count))


# ---------------------------------------------------------------- reading


def test_labels_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    examples, names = read_tsv(write(tmp_path / "a.tsv", ROWS))
    assert names == ("neg", "pos")
    assert examples.texts == ("good film", "bad film")
    assert examples.labels is not None and examples.labels.dtype == np.int64
    assert examples.labels.tolist() == [1, 0]
    assert examples.pairs is None and len(examples) == 2


def test_integer_labels_are_sorted_by_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "text\tlabel\na\t10\nb\t9\nc\t-1\n")
    assert read_tsv(path)[1] == ("-1", "9", "10")


def test_pairs_and_unlabelled_files(tmp_path: Path) -> None:
    pairs, names = read_tsv(write(tmp_path / "a.tsv", "text\ttext2\tlabel\na\tb\t1\nc\td\t0\n"))
    assert (pairs.texts, pairs.pairs, names) == (("a", "c"), ("b", "d"), ("0", "1"))
    plain, names = read_tsv(write(tmp_path / "b.tsv", "text\nfirst\nsecond\n"))
    assert (plain.texts, plain.labels, plain.pairs, names) == (("first", "second"), None, None, ())


def test_quotes_odd_separators_and_outer_spaces_belong_to_the_text(tmp_path: Path) -> None:
    text = ' "half a quote, \u2028 and \x0b\x85'
    examples, _ = read_tsv(write(tmp_path / "a.tsv", f"text\tlabel\n{text}\t1 \n"))
    assert examples.texts == (text,)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n \n"])
def test_line_ends_marks_and_trailing_blank_lines_do_not_matter(tmp_path: Path, ending: str, tail: str) -> None:
    content = ("\ufeff" + ROWS.rstrip("\n") + tail).replace("\n", ending)
    examples, names = read_tsv(write(tmp_path / "a.tsv", content))
    assert (examples.texts, names) == (("good film", "bad film"), ("neg", "pos"))


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_compressed_files_read_alike(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.tsv{suffix}"
    path.write_bytes(pack(ROWS.encode()))
    assert read_tsv(path)[0].texts == ("good film", "bad film")


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_whatever_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.tsv"
    examples, names = read_tsv(write(path, "text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows)))
    assert examples.texts == tuple(text for text, _ in rows)
    assert examples.labels is not None
    assert [names[i] for i in examples.labels] == [label.strip() for _, label in rows]


def test_lines_are_stripped_and_blank_ones_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.xz"
    path.write_bytes(lzma.compress("\ufeff one \r\n\r\n \n二\n".encode()))
    assert read_lines(path) == ["one", "二"]


def test_subset_keeps_rows_together() -> None:
    examples = Examples(("a", "b", "c"), np.array([0, 1, 2]), ("x", "y", "z"))
    part = examples.subset([2, 0])
    assert part.texts == ("c", "a") and part.pairs == ("z", "x")
    assert part.labels is not None and part.labels.tolist() == [2, 0]
    with pytest.raises(ShapeError, match="labels: expected one for each of the 3 texts, got 2"):
        Examples(("a", "b", "c"), np.array([0, 1]))


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.tsv: expected the header .* got an empty file"),
        ("\n\n", "a.tsv: expected the header .* got an empty file"),
        ("text\tlabel\n", "a.tsv:1: expected .* got a header and no rows"),
        ("a good film\t1\n", r"a.tsv:1: expected the header text<TAB>label .* got 'a good film\\t1'; try"),
        ("label\ttext\n1\ta\n", r"a.tsv:1: expected the header .* got 'label\\ttext'"),
        ("text\tlabel\tlabel\na\t1\t1\n", "a.tsv:1: .* got the column 'label' more than once"),
        ("text,label\na,1\n", "a.tsv:1: expected the header"),
        (
            ROWS + "no tab here\n",
            r"a.tsv:4: expected 2 tab-separated columns \(text, label\), got 1 in 'no tab",
        ),
        (ROWS + "a\tb\tpos\n", "a.tsv:4: expected 2 tab-separated columns .* got 3"),
        (ROWS + "\n" + "a\tpos\n", "a.tsv:4: expected a row, got a blank line"),
        (ROWS + " \tpos\n", "a.tsv:4: expected a non-empty text, got ' '"),
        (ROWS + "a\t\n", "a.tsv:4: expected a non-empty label, got ''"),
        ("text\ttext2\tlabel\na\t\t1\n", "a.tsv:2: expected a non-empty text2"),
        ("text\na\n\nb\n", "a.tsv:3: expected a row, got a blank line"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tsv(write(tmp_path / "a.tsv", content))


def test_unknown_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.tsv:2: expected one of the labels neg, neutral, got 'pos'"):
        read_tsv(write(tmp_path / "a.tsv", ROWS), ["neg", "neutral"])


def test_wrong_encoding_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbftext\tlabel\nok\t1\n\xb0\xa1\t0\n")
    with pytest.raises(DataError, match=r"a.tsv:3: expected UTF-8 text, got the byte 0xb0 at offset 19; try"):
        read_tsv(path)


def test_missing_files_and_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.tsv: expected a readable file, got No such file"):
        read_text(tmp_path / "a.tsv")
    with pytest.raises(DataError, match="expected a readable file, got Is a directory"):
        read_text(tmp_path)
    with pytest.raises(DataError, match="a.txt: expected one sentence a line, got a file without text"):
        read_lines(write(tmp_path / "a.txt", " \n\n"))


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_truncated_and_foreign_archives_are_data_errors(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    whole = pack(many_rows(50).encode())
    flipped = whole[:20] + bytes([whole[20] ^ 255]) + whole[21:]
    path = tmp_path / f"a.tsv{suffix}"
    for raw in [whole[: len(whole) // 2], whole[:-1], flipped, ROWS.encode(), b"\x00"]:
        path.write_bytes(raw)
        with pytest.raises(DataError, match=f"a.tsv{suffix}: expected a whole {suffix} file, got a truncated"):
            read_tsv(path)


# ---------------------------------------------------------------- data sets


def dataset(folder: Path, **parts: str) -> Path:
    for name, content in parts.items():
        write(folder / f"{name}.tsv", content)
    return folder


def test_three_files_make_a_data_set(tmp_path: Path) -> None:
    data = load_dataset(dataset(tmp_path, train=ROWS, dev="text\tlabel\nx\tpos\n", test="text\tlabel\ny\tneg\n"))
    assert data.label_names == ("neg", "pos")
    assert [len(part) for part in (data.train, data.dev, data.test)] == [2, 1, 1]
    assert data.dev.labels is not None and data.dev.labels.tolist() == [1]


def test_dev_is_cut_from_train_label_by_label(tmp_path: Path) -> None:
    folder = dataset(tmp_path, train=many_rows(200, labels=4), test=many_rows(8))
    data, again, other = load_dataset(folder), load_dataset(folder), load_dataset(folder, seed=1)
    assert data.dev.labels is not None
    assert np.bincount(data.dev.labels).tolist() == [5, 5, 5, 5]
    assert data.dev.texts == again.dev.texts != other.dev.texts
    assert sorted(data.train.texts + data.dev.texts) == sorted(f"text number {i}" for i in range(200))
    assert data.test.texts == tuple(f"text number {i}" for i in range(8))
    assert len(load_dataset(folder, dev_fraction=0.5).dev) == 100


def test_train_keeps_an_example_of_every_label(tmp_path: Path) -> None:
    rare = "text\tlabel\na\t0\nb\t0\nc\t0\nd\t1\n"
    data = load_dataset(dataset(tmp_path, train=rare, test=rare), dev_fraction=0.9)
    assert data.train.labels is not None and sorted(data.train.labels.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ROWS}, "expected the files train.tsv and test.tsv .* got no test.tsv; try"),
        ({"train": ROWS, "dev": ROWS}, "got no test.tsv"),
        ({"dev": ROWS}, "got no train.tsv and no test.tsv"),
        ({"train": ROWS, "test": "text\na\n"}, "test.tsv:1: expected the column label, got unlabelled text"),
        ({"train": ROWS, "test": ROWS, "dev": "text\na\n"}, "dev.tsv:1: expected the column label"),
        ({"train": "text\na\n", "test": ROWS}, "train.tsv:1: expected the column label"),
        ({"train": ROWS, "test": "text\tlabel\na\tso-so\n"}, "test.tsv:2: .* labels neg, pos, got 'so-so'"),
        ({"train": ROWS, "test": ROWS, "dev": "text\tlabel\na\t1\n"}, "dev.tsv:2: .* got '1'"),
        (
            {"train": "text\tlabel\na\t1\nb\t1\n", "test": ROWS},
            "train.tsv: expected at least two different labels",
        ),
        (
            {"train": ROWS, "test": "text\ttext2\tlabel\na\tb\tpos\n"},
            "test.tsv:1: expected single texts, as in train",
        ),
        ({"train": ROWS, "test": ROWS}, "train.tsv: expected enough examples to cut dev from, got 2"),
    ],
)
def test_bad_data_sets_are_refused(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(dataset(tmp_path, **parts))


def test_bad_folders_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: expected a folder"):
        load_dataset(tmp_path / "nowhere")
    folder = dataset(tmp_path, train=many_rows(20), test=ROWS.replace("pos", "0").replace("neg", "1"))
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(ConfigError, match="dev_fraction: expected a share between 0 and 1"):
            load_dataset(folder, dev_fraction=fraction)
    with pytest.raises(ConfigError, match="seed: expected an integer >= 0, got -1"):
        load_dataset(folder, seed=-1)
    (folder / "test.tsv.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected one test file, got test.tsv and test.tsv.gz"):
        load_dataset(folder)


# ---------------------------------------------------------------- real data

COUNTS = {"sst2": (6920, 872, 1821, 2), "sst5": (8544, 1101, 2210, 5), "mrpc": (3668, 408, 1725, 2)}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sets_have_their_published_sizes(shared: Path, name: str) -> None:
    data = load_dataset(shared / "data" / name)
    assert (len(data.train), len(data.dev), len(data.test), len(data.label_names)) == COUNTS[name]
    assert (data.train.pairs is not None) == (name == "mrpc")


def test_a_set_without_a_labelled_test_file_says_so(shared: Path) -> None:
    with pytest.raises(DataError, match="cola: .* got no test.tsv"):
        load_dataset(shared / "data" / "cola")
    assert read_tsv(shared / "data" / "cola" / "test_unlabelled.tsv")[0].labels is None


def test_unlabelled_text_is_read(shared: Path) -> None:
    lines = read_lines(shared / "text" / "text_en" / "wikipedia_sentences_qnli.txt.xz")
    assert len(lines) == 6098
    assert lines[0] == "As of that day, the new constitution heralding the Second Republic came into force."
