"""What counts as the same text, and that held-out texts are dropped."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.data.overlap import drop_overlap, normalise
from minispike.data.text import load_dataset

WORDS = st.lists(st.text("abcXYZ019好看éß", min_size=1, max_size=5), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It 's GREAT !", "itsgreat"),
        ("1930s, re-imagined_", "1930sreimagined"),
        ("味道 不错，很 好！", "味道不错很好"),
        ("Straße", "strasse"),
        ("cafe\u0301", "caf\u00e9"),  # an accent written as a mark of its own
        ("ＡＢＣ　１２３", "abc123"),  # full width
        ("?!... ", ""),
        ("", ""),
    ],
)
def test_normal_forms(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(WORDS)
def test_spacing_punctuation_and_capitals_do_not_matter(words: list[str]) -> None:
    assert normalise(" ".join(words)) == normalise(", ".join(words).upper() + " .") == normalise("".join(words))


def test_overlap_is_dropped_and_the_rest_kept_in_place() -> None:
    candidates = ["a good film .", "not held out", "A GOOD FILM", "...", "!!!", "另一个"]
    result = drop_overlap(candidates, iter(["A good film!", " ... ", "别的"]))
    assert result.kept.tolist() == [1, 4, 5]
    assert result.dropped == 3
    assert result.examples == ("a good film .", "A GOOD FILM", "...")


def test_pairs_are_compared_as_a_whole() -> None:
    result = drop_overlap(["one\ttwo", "one\tthree"], ["One\tTwo!"])
    assert result.kept.tolist() == [1]


def test_nothing_in_nothing_out() -> None:
    assert drop_overlap([], ["a"]).kept.tolist() == []
    result = drop_overlap(["a"] * 20, ["A"])
    assert (result.kept.tolist(), result.dropped, len(result.examples)) == ([], 20, 5)


@given(WORDS, WORDS)
def test_nothing_kept_equals_anything_held_out(candidates: list[str], held_out: list[str]) -> None:
    result = drop_overlap(candidates, held_out)
    assert len(result.kept) + result.dropped == len(candidates)
    assert not {normalise(candidates[i]) for i in result.kept} & {normalise(text) for text in held_out}


def test_measured_overlap_of_real_sets(shared: Path) -> None:
    sst2, mr = load_dataset(shared / "data" / "sst2"), load_dataset(shared / "data" / "mr")
    everything = mr.train.texts + mr.dev.texts + mr.test.texts
    assert drop_overlap(sst2.test.texts, everything).dropped >= 1431
    assert drop_overlap(sst2.test.texts, sst2.train.texts).dropped == 2
    assert drop_overlap(sst2.dev.texts, sst2.train.texts).dropped == 1
