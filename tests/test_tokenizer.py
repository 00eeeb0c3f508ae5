"""Tokenizers: equal to the library they wrap, alike whatever the file holds, and learnt alike every time."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minispike.data.text import load_dataset, read_lines
from minispike.data.tokenizer import Tokenizer
from minispike.errors import BackendError, ConfigError, DataError, ShapeError

tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers library: pip install minispike[distill]")

ROOT = Path(__file__).resolve().parents[1]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, "a", "good", "film", "##s", "Film", ".", "很", "好"]
CORPUS = [
    "A good film, a very good film.",
    "Films are good; the film was not.",
    "Eine schöne Überraschung",
] * 5
SENTENCES = st.text("abcdef gh.,!好看é", max_size=40)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def learnt() -> Tokenizer:
    return Tokenizer.train(CORPUS, vocab_size=100)


def tokens(tokenizer: Tokenizer, text: str, pair: str | None = None, max_length: int = 128) -> list[str]:
    encoded = tokenizer.encode([text], None if pair is None else [pair], max_length)
    return [tokenizer.token(int(i)) for i in encoded.ids[0]]


# ---------------------------------------------------------------- encoding


def test_a_text_stands_between_cls_and_sep(vocabulary: Path) -> None:
    tokenizer = Tokenizer.from_file(vocabulary)
    assert tokens(tokenizer, "A good FILMS.") == ["[CLS]", "a", "good", "film", "##s", ".", "[SEP]"]
    assert tokens(tokenizer, "很好 good") == ["[CLS]", "很", "好", "good", "[SEP]"]
    assert tokens(tokenizer, "") == ["[CLS]", "[SEP]"]
    encoded = tokenizer.encode(["good", "a good film"])
    assert encoded.segments is None and encoded.lengths.tolist() == [3, 5] and len(encoded) == 2
    assert all(ids.dtype == np.int32 for ids in encoded.ids)


def test_a_pair_has_segments(vocabulary: Path) -> None:
    tokenizer = Tokenizer.from_file(vocabulary)
    assert tokens(tokenizer, "good film", "a film") == [
        "[CLS]",
        "good",
        "film",
        "[SEP]",
        "a",
        "film",
        "[SEP]",
    ]
    encoded = tokenizer.encode(["good film", ""], ["a film", "a"])
    assert encoded.segments is not None
    assert [row.tolist() for row in encoded.segments] == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1]]
    assert encoded.segments[0].dtype == np.int32
    part = encoded.subset([1])
    assert part.lengths.tolist() == [4] and part.segments is not None and len(part.segments) == 1


def test_shares_of_truncated_texts_and_unknown_tokens(vocabulary: Path) -> None:
    tokenizer = Tokenizer.from_file(vocabulary)
    encoded = tokenizer.encode(["a good film", "bad film", "a a a a a", "film"], max_length=5)
    assert encoded.lengths.tolist() == [5, 4, 5, 3]
    assert encoded.truncated == 1 / 4
    assert encoded.unknown == 1 / 9
    pairs = tokenizer.encode(["a a a", "a"], ["bad", "a"], max_length=6)
    assert (pairs.truncated, pairs.unknown) == (1 / 2, 1 / 5)
    assert (tokenizer.encode([]).truncated, tokenizer.encode([]).unknown) == (0.0, 0.0)


@given(first=SENTENCES, second=SENTENCES, max_length=st.integers(5, 24))
@settings(max_examples=100)
def test_layout_and_truncation_equal_the_library(learnt: Tokenizer, first: str, second: str, max_length: int) -> None:
    library = tokenizers.Tokenizer.from_str(learnt._inner.to_str())
    library.enable_truncation(max_length)
    single, pair = library.encode(first), library.encode(first, second)
    assert learnt.encode([first], max_length=max_length).ids[0].tolist() == single.ids
    encoded = learnt.encode([first], [second], max_length=max_length)
    assert encoded.segments is not None
    assert (encoded.ids[0].tolist(), encoded.segments[0].tolist()) == (pair.ids, pair.type_ids)
    assert encoded.truncated == float(len(pair.overflowing) > 0)


def test_long_pairs_are_cheap(learnt: Tokenizer) -> None:
    encoded = learnt.encode(["good " * 20_000] * 4, ["film " * 20_000] * 4, max_length=16)
    assert encoded.lengths.tolist() == [16] * 4 and encoded.truncated == 1.0


def test_many_texts_keep_their_order(learnt: Tokenizer) -> None:
    texts = ["a " * (i % 7) for i in range(10_000)]  # more than one chunk
    assert learnt.encode(texts).lengths.tolist() == [i % 7 + 2 for i in range(10_000)]


def test_bad_requests_are_refused(learnt: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="max_length: expected at least 3, got 2"):
        learnt.encode(["a"], max_length=2)
    with pytest.raises(ConfigError, match="max_length: expected at least 5, got 4"):
        learnt.encode(["a"], ["b"], max_length=4)
    with pytest.raises(ShapeError, match="pairs: expected 2, as texts, got 1"):
        learnt.encode(["a", "b"], ["c"])
    for number in (-1, learnt.vocab_size):
        with pytest.raises(DataError, match="expected a token number from 0 to"):
            learnt.token(number)


# ---------------------------------------------------------------- text is text


MARKS = "a [SEP] b[MASK]c [CLS][PAD] [UNK]"


def test_special_tokens_in_a_text_are_text(vocabulary: Path, learnt: Tokenizer) -> None:
    for tokenizer in (learnt, Tokenizer.from_file(vocabulary), Tokenizer.train([*CORPUS, "[ ] mask sep"] * 3, 200)):
        special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
        (single,), (pair,) = tokenizer.encode([MARKS]).ids, tokenizer.encode([MARKS], [MARKS]).ids
        assert not special & set(single[1:-1].tolist())
        assert np.count_nonzero(pair == tokenizer.sep_id) == 2 and tokenizer.mask_id not in pair
        apart = MARKS.replace("[", "[ ").replace("]", " ]")
        assert single.tolist() == tokenizer.encode([apart]).ids[0].tolist()
    assert tokens(tokenizer, "A [SEP] film") == ["[CLS]", "a", "[", "sep", "]", "film", "[SEP]"]


def test_marks_of_augmentation_are_masks(vocabulary: Path, learnt: Tokenizer) -> None:
    library = tokenizers.Tokenizer.from_str(learnt._inner.to_str())
    texts = ["a good [MASK] .", "[MASK]", "[MASK] [MASK] film", "films[MASK]are", "", "no mark"]
    encoded = learnt.encode(texts, mask_marks=True)
    assert [ids.tolist() for ids in encoded.ids] == [library.encode(text).ids for text in texts]
    assert encoded.unknown == learnt.encode([text.replace("[MASK]", " a ") for text in texts]).unknown
    assert learnt.mask_id not in learnt.encode(texts).ids[0]
    (ids,) = learnt.encode(["[SEP] [MASK] good film"], max_length=4, mask_marks=True).ids
    assert len(ids) == 4 and np.count_nonzero(ids == learnt.sep_id) == 1
    pair = learnt.encode(["a [MASK]"], ["[MASK] b"], mask_marks=True)
    assert np.count_nonzero(pair.ids[0] == learnt.mask_id) == 2
    vocabulary.write_text("\n".join(t for t in VOCAB if t != "[MASK]"), encoding="utf-8")
    plain = Tokenizer.from_file(vocabulary)
    assert [plain.token(int(i)) for i in plain.encode(["a [MASK]"], mask_marks=True).ids[0]][1:3] == ["a", "[UNK]"]


@pytest.mark.parametrize("change", ["ordinary tokens", "split at spaces"])
def test_files_that_would_find_special_tokens_still_do_not(tmp_path: Path, learnt: Tokenizer, change: str) -> None:
    stored = json.loads(learnt._inner.to_str())
    if change == "ordinary tokens":
        for token in stored["added_tokens"]:
            token["special"] = False
    else:
        stored["normalizer"], stored["pre_tokenizer"] = None, {"type": "WhitespaceSplit"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    tokenizer = Tokenizer.from_file(tmp_path)
    assert tokens(tokenizer, "a [SEP] a [MASK] [PAD]") == ["[CLS]", "a", "[UNK]", "a", "[UNK]", "[UNK]", "[SEP]"]


# ---------------------------------------------------------------- files


def test_stored_padding_and_truncation_are_switched_off(tmp_path: Path, learnt: Tokenizer) -> None:
    library = tokenizers.Tokenizer.from_str(learnt._inner.to_str())
    library.enable_padding(length=32)
    library.enable_truncation(4)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(tmp_path)
    assert tokens(tokenizer, "a good film .") == ["[CLS]", "a", "good", "film", ".", "[SEP]"]
    tokenizer.save(tmp_path / "clean.json")
    stored = json.loads((tmp_path / "clean.json").read_text(encoding="utf-8"))
    assert stored["padding"] is None and stored["truncation"] is None


def test_saved_and_read_back_it_is_the_same(tmp_path: Path, learnt: Tokenizer) -> None:
    learnt.save(tmp_path / "new" / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "new")
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new" / "tokenizer.json").read_bytes()
    assert tokens(again, "Schöne films") == tokens(learnt, "Schöne films")
    assert again.vocab_size == learnt.vocab_size


def test_a_vocabulary_folds_capitals_unless_told_otherwise(vocabulary: Path) -> None:
    config = vocabulary.with_name("tokenizer_config.json")
    assert tokens(Tokenizer.from_file(vocabulary.parent), "Film")[1] == "film"
    config.write_text('{"do_lower_case": false}')
    assert tokens(Tokenizer.from_file(vocabulary.parent), "Film")[1] == "Film"
    config.write_text('{"model_max_length": 512}')
    assert tokens(Tokenizer.from_file(vocabulary), "Film")[1] == "film"
    for content, message in [
        ("{", "a JSON object"),
        ('{"do_lower_case": "no"}', "do_lower_case true or false"),
    ]:
        config.write_text(content)
        with pytest.raises(DataError, match=f"tokenizer_config.json: expected {message}"):
            Tokenizer.from_file(vocabulary)


def test_windows_line_ends_in_a_vocabulary_do_not_matter(vocabulary: Path) -> None:
    vocabulary.write_bytes("\ufeff".encode() + vocabulary.read_bytes().replace(b"\n", b"\r\n"))
    tokenizer = Tokenizer.from_file(vocabulary)
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (len(VOCAB), 0)


@pytest.mark.parametrize("token", SPECIAL[:4])
def test_files_without_a_special_token_are_refused(tmp_path: Path, learnt: Tokenizer, token: str) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(t for t in VOCAB if t != token), encoding="utf-8")
    stored = json.loads(learnt._inner.to_str())
    stored["added_tokens"] = []
    stored["post_processor"] = None
    stored["model"]["vocab"]["other"] = stored["model"]["vocab"].pop(token)
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    for path in (vocab, tmp_path / "tokenizer.json"):
        with pytest.raises(DataError) as caught:
            Tokenizer.from_file(path)
        assert str(caught.value).startswith(f"{path}: expected the token {token}, got")


def test_only_masking_needs_a_mask_token(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(t for t in VOCAB if t != "[MASK]"), encoding="utf-8")
    tokenizer = Tokenizer.from_file(path)
    with pytest.raises(DataError, match=r"vocab.txt: expected the token \[MASK\]"):
        _ = tokenizer.mask_id


def test_bad_files_are_refused(tmp_path: Path, vocabulary: Path) -> None:
    with pytest.raises(DataError, match="x.json: expected a readable file, got No such file"):
        Tokenizer.from_file(tmp_path / "x.json")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="expected tokenizer.json or vocab.txt, got a folder with neither"):
        Tokenizer.from_file(empty)
    broken = tmp_path / "broken.json"
    for content in ("", "{", "[]", '{"model": 3}'):
        broken.write_text(content)
        with pytest.raises(DataError, match="broken.json: expected a tokenizer.json or a vocabulary in .txt"):
            Tokenizer.from_file(broken)
    vocabulary.write_text("\n".join([*VOCAB, "good"]), encoding="utf-8")
    with pytest.raises(DataError, match="vocab.txt:14: expected another token in each line, got 'good', which line 7"):
        Tokenizer.from_file(vocabulary)


def test_a_tokenizer_knows_its_model(learnt: Tokenizer) -> None:
    learnt.check_matches(learnt.vocab_size)
    with pytest.raises(DataError, match=f"tokenizer: expected 30522 tokens.* got {learnt.vocab_size}"):
        learnt.check_matches(30522)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, vocabulary: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackendError, match=r'tokenizers: .* try `pip install "minispike\[distill\]"`'):
        Tokenizer.from_file(vocabulary)


def test_the_library_is_imported_only_when_it_is_used() -> None:
    program = "import sys, minispike.data.batches; assert 'tokenizers' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


# ---------------------------------------------------------------- learning


def test_learnt_vocabularies_begin_with_the_special_tokens(learnt: Tokenizer) -> None:
    assert [learnt.token(i) for i in range(5)] == SPECIAL
    assert (learnt.pad_id, learnt.unk_id, learnt.cls_id, learnt.sep_id, learnt.mask_id) == (0, 1, 2, 3, 4)
    assert tokens(learnt, "A GOOD film.") == ["[CLS]", "a", "good", "film", ".", "[SEP]"]
    assert learnt.encode(CORPUS).unknown == 0.0
    assert learnt.vocab_size <= 100


def test_case_can_be_kept() -> None:
    tokenizer = Tokenizer.train(CORPUS, vocab_size=200, lowercase=False)
    assert tokens(tokenizer, "Überraschung A a") == ["[CLS]", "Überraschung", "A", "a", "[SEP]"]


@pytest.mark.parametrize("size", [7, 12, 25, 60])
def test_the_size_is_kept_and_rare_characters_become_unknown(size: int) -> None:
    tokenizer = Tokenizer.train([*CORPUS, "零 一 二 三 四 五 六 七 八 九"], vocab_size=size)
    assert tokenizer.vocab_size <= size
    assert tokens(tokenizer, "零" if size < 60 else "a")[1] == ("[UNK]" if size < 60 else "a")


def test_bad_training_is_refused() -> None:
    with pytest.raises(DataError, match="texts: expected texts to learn a vocabulary from, got no words"):
        Tokenizer.train(["", "  "])
    with pytest.raises(ConfigError, match="vocab_size: expected at least 7, .* got 6"):
        Tokenizer.train(CORPUS, vocab_size=6)


TRAIN_TWICE = """
import sys
from minispike.data.tokenizer import Tokenizer
words = [f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwé"]
texts = [" ".join(words[i::7]) + " 你好世界" + chr(0x4E00 + i) for i in range(40)]
Tokenizer.train(texts, vocab_size=300).save(sys.argv[1])
"""


def test_training_gives_the_same_file_in_every_process(tmp_path: Path) -> None:
    digests = set()
    for seed in ("0", "1", "2"):
        path = tmp_path / f"{seed}.json"
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", TRAIN_TWICE, str(path)], check=True, env=environment)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


# ---------------------------------------------------------------- real files


def test_a_published_tokenizer_and_its_vocabulary_agree(shared: Path) -> None:
    texts = [*load_dataset(shared / "data" / "sst2").test.texts, "Überaus café [MASK] 好 x\u200b\ud7ff"]
    whole = Tokenizer.from_file(shared / "models" / "minilm-l6")
    plain = Tokenizer.from_file(shared / "models" / "minilm-l6" / "vocab.txt")
    other = Tokenizer.from_file(shared / "models" / "vocab" / "bert-base-uncased-vocab.txt")
    a, b, c = (tokenizer.encode(texts) for tokenizer in (whole, plain, other))
    for x, y, z in zip(a.ids, b.ids, c.ids, strict=True):
        assert x.tolist() == y.tolist() == z.tolist()
    whole.check_matches(30522)
    assert (whole.pad_id, whole.unk_id, whole.cls_id, whole.sep_id, whole.mask_id) == (0, 100, 101, 102, 103)
    assert a.lengths.max() < 100 and a.truncated == 0.0 and a.unknown < 0.001


def test_published_tokenizers_take_a_text_as_text(shared: Path) -> None:
    models = shared / "models"
    for path in (
        models / "minilm-l6",
        models / "minilm-l6" / "vocab.txt",
        models / "vocab" / "bert-base-uncased-vocab.txt",
    ):
        tokenizer = Tokenizer.from_file(path)
        assert tokens(tokenizer, "a [SEP] b[MASK]")[1:-1] == ["a", "[", "sep", "]", "b", "[", "mask", "]"]
        (ids,) = tokenizer.encode(["a [SEP] b[MASK]"], mask_marks=True).ids
        assert [tokenizer.token(int(i)) for i in ids[1:-1]] == ["a", "[", "sep", "]", "b", "[MASK]"]
    chinese = Tokenizer.from_file(models / "vocab" / "bert-base-chinese-vocab.txt")
    (ids,) = chinese.encode(["味[MASK]不错"], mask_marks=True).ids
    assert [chinese.token(int(i)) for i in ids] == ["[CLS]", "味", "[MASK]", "不", "错", "[SEP]"]
    assert chinese.mask_id not in chinese.encode(["味[MASK]不错"]).ids[0]


def test_published_pairs_equal_the_library(shared: Path) -> None:
    examples = load_dataset(shared / "data" / "mrpc").dev
    assert examples.pairs is not None
    path = shared / "models" / "minilm-l6" / "tokenizer.json"
    library: Any = tokenizers.Tokenizer.from_file(str(path))
    library.no_padding()
    library.enable_truncation(40)
    expected = library.encode_batch(list(zip(examples.texts, examples.pairs, strict=True)))
    encoded = Tokenizer.from_file(path).encode(examples.texts, examples.pairs, max_length=40)
    assert [ids.tolist() for ids in encoded.ids] == [e.ids for e in expected]
    assert encoded.segments is not None
    assert [row.tolist() for row in encoded.segments] == [e.type_ids for e in expected]
    assert encoded.truncated == np.mean([len(e.overflowing) > 0 for e in expected])


def test_chinese(shared: Path) -> None:
    texts = load_dataset(shared / "data" / "waimai_10k").dev.texts
    tokenizer = Tokenizer.from_file(shared / "models" / "vocab" / "bert-base-chinese-vocab.txt")
    assert tokenizer.vocab_size == 21128
    assert tokens(tokenizer, "味道不错") == ["[CLS]", *"味道不错", "[SEP]"]
    assert tokenizer.encode(texts).unknown < 0.01


def test_a_vocabulary_learnt_from_real_text_spells_it(shared: Path) -> None:
    lines = read_lines(shared / "text" / "text_en" / "wikipedia_sentences_qnli.txt.xz")[:2000]
    tokenizer = Tokenizer.train(lines, vocab_size=2000)
    assert tokenizer.vocab_size == 2000
    encoded = tokenizer.encode(lines)
    assert encoded.unknown == 0.0
    assert encoded.lengths.mean() < 2.0 * np.mean([len(line.split()) for line in lines])
