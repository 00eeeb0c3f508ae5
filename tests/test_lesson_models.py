"""The models that ship with the lessons are what their README says, and their command copies a run's."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny import Outcome

import minispike
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.tokenizer import Tokenizer
from minispike.metrics import accuracy
from minispike.models.bert import Bert
from minispike.runfolder import FINETUNED, PRETRAINED, load_teacher
from minispike.train.predict import predict_logits

for needed in ("tokenizers", "onnxruntime", "safetensors"):
    pytest.importorskip(needed, reason="needs the extra 'distill'")

from tutorials.make_models import FOLDER, take

README = (FOLDER / "README.md").read_text(encoding="utf-8")


def said_of(name: str) -> float:
    """The accuracy in the row of a model."""
    found = re.search(rf"`{name}/` \|.*\| ([\d.]+) % \|", README)
    assert found, name
    return float(found[1])


def test_they_are_small() -> None:
    berts = [path for path in FOLDER.rglob("*") if path.is_file() and path.parent.name.startswith("bert-")]
    assert len(berts) == 6
    assert sum(path.stat().st_size for path in berts) < 2e6


def test_they_are_as_good_as_it_says() -> None:
    test = build_reviews(ReviewsConfig(unlabelled=0)).test
    tokenizer, bert = Tokenizer.from_file(FOLDER / "bert-finetuned"), Bert.from_folder(FOLDER / "bert-finetuned")
    texts = tokenizer.encode(test.texts)
    found = predict_logits(lambda i, m, s: bert(i, m, s).logits, texts, pad_id=tokenizer.pad_id).argmax(axis=1)
    assert test.labels is not None
    assert 100 * accuracy(test.labels, found) == pytest.approx(said_of("bert-finetuned"), abs=0.5)
    student = minispike.load(FOLDER / "student").evaluate(test).result
    assert 100 * student.accuracy == pytest.approx(said_of("student"), abs=1.0)


def test_models_are_taken_from_a_run(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    run = finished[0]
    take(run, tmp_path)
    for name, where in (("bert-pretrained", PRETRAINED), ("bert-finetuned", FINETUNED)):
        weights, _ = load_teacher(run, where)
        copied = Bert.from_folder(tmp_path / name).state_dict()
        assert copied.keys() == weights.keys()
        for key, value in weights.items():
            np.testing.assert_array_equal(copied[key], value.astype(np.float16), err_msg=key)
    texts = ["this film is not dull .", "i never liked it ."]
    ours, theirs = minispike.load(tmp_path / "student"), minispike.load(run)
    np.testing.assert_array_equal(ours.logits(texts), theirs.logits(texts))
