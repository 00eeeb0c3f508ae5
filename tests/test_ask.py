"""What a finished run answers: evaluate, predict, energy, and `minispike.load`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import Outcome, assert_mistake, minispike, reviews

import minispike as package
from minispike.errors import CheckpointError, DataError, RunFolderError
from minispike.loaded import load_student, save_student
from minispike.runfolder import read_config

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

Finished = tuple[Path, Outcome]
SENTENCES = ("not a good film at all .", "although the plot is dull , i loved this film .")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's test set as a file."""
    path = tmp_path_factory.mktemp("data") / "test.tsv"
    test, names = reviews().test, reviews().label_names
    rows = [f"{text}\t{names[label]}" for text, label in zip(test.texts, test.labels, strict=True)]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return path


def test_evaluate(finished: Finished, labelled: Path) -> None:
    run, _ = finished
    done = json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
    found = json.loads(minispike("evaluate", run, "--file", labelled, "--json").out)
    assert {name: found[name] for name in ("accuracy", "low", "high", "macro_f1")} == (
        done["evaluation"]["table"]["student"]
    )
    assert found["examples"] == 60
    assert [each["label"] for each in found["classes"]] == ["negative", "positive"]
    assert [each["examples"] for each in found["classes"]] == [30, 30]
    assert sum(each["predicted"] for each in found["classes"]) == 60
    assert sum(each["right"] for each in found["classes"]) == round(60 * found["accuracy"])
    words = minispike("evaluate", run, "--file", labelled).out
    assert f"accuracy of 60  {100 * found['accuracy']:.2f} %" in words
    assert "label     examples  predicted  right" in words


def test_predict(finished: Finished, tmp_path: Path) -> None:
    run, _ = finished
    answers = json.loads(minispike("predict", run, "--json", *SENTENCES).out)  # sentences behind a flag
    assert [answer["text"] for answer in answers] == list(SENTENCES)
    for answer in answers:
        shares = answer["probabilities"]
        assert list(shares) == ["negative", "positive"]
        assert sum(shares.values()) == pytest.approx(1)
        assert answer["label"] == max(shares, key=shares.__getitem__)
    lines = minispike("predict", run, *SENTENCES).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [answer["label"] for answer in answers]
    assert [line.split("\t")[2] for line in lines] == list(SENTENCES)
    file = tmp_path / "sentences.txt"
    file.write_text("\n".join(SENTENCES), encoding="utf-8")
    assert minispike("predict", run, "--file", file).out.splitlines() == lines


def with_note(finished: Finished, run: Path, pairs: bool | None) -> Path:
    """A copy of the run whose student is said to have learned pairs, single texts, or nobody knows what."""
    shutil.copytree(finished[0], run)
    student, names = load_student(run / "model.safetensors")
    save_student(run / "model.safetensors", student, names, pairs=pairs)
    return run


def test_pairs_and_single_texts_do_not_mix(finished: Finished, labelled: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("text\ttext2\tlabel\na film\tno film\tnegative\n", encoding="utf-8")
    of_pairs, old = (with_note(finished, tmp_path / name, note) for name, note in (("pairs", True), ("old", None)))
    assert [package.load(run).pairs for run in (finished[0], of_pairs, old)] == [False, True, None]
    for run, file, text, expected in (
        (finished[0], pairs, "a\tb", "texts: expected single texts, as in training, got pairs of texts; try one"),
        (of_pairs, labelled, "a", "texts: expected pairs of texts, as in training, got single texts; try a second"),
    ):
        assert_mistake(minispike("evaluate", run, "--file", file), expected)
        assert_mistake(minispike("energy", run, "--file", file), expected)
        assert_mistake(minispike("predict", run, text), expected)
        assert package.load(run).predict([]) == []
    for run, file, text in ((of_pairs, pairs, "a\tb"), (old, pairs, "a\tb"), (old, labelled, "a")):
        assert minispike("evaluate", run, "--file", file).code == 0
        assert minispike("predict", run, text).code == 0


def test_what_is_no_text(finished: Finished) -> None:
    run = package.load(finished[0])
    wrong: list[tuple[Any, str]] = [
        ([1, 2], "got int at place 0"), (["a", None], "got NoneType at place 1"), ("good", "got one string"),
        (5, "got int"), ((text for text in SENTENCES), "got generator"), (None, "got NoneType"),
    ]  # fmt: skip
    for texts, got in wrong:
        with pytest.raises(DataError, match=f"texts: expected a list of texts, {got}; try"):
            run.predict(texts)
    with pytest.raises(DataError, match="pairs: expected a list of texts, got one string"):
        run.predict(SENTENCES, "two")
    assert len(run.predict(np.array(SENTENCES))) == 2  # type: ignore[arg-type]


def test_predict_tells_what_it_cannot_read(finished: Finished) -> None:
    run, _ = finished
    assert_mistake(minispike("predict", run), "texts: expected sentences or --file, got neither")
    assert_mistake(minispike("predict", run, "good", "--file", "x"), "got both")
    assert_mistake(minispike("predict", run, "good", " "), "sentence 2: expected some text")
    assert_mistake(minispike("predict", run, "good\tbad", "good"), "sentence 2: expected two texts")
    assert minispike("predict", run, "good", "--jsn").code == 2


def test_energy(finished: Finished, labelled: Path) -> None:
    run, _ = finished
    done = json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
    found = json.loads(minispike("energy", run, "--file", labelled, "--json").out)
    assert found["student"]["total_mj"] == pytest.approx(done["energy"]["student"]["total_mj"], rel=1e-9)
    assert found["ratio"] == pytest.approx(done["energy"]["twin"]["student_share"], rel=1e-9)
    assert found["teacher"]["total_mj"] > found["student"]["total_mj"]
    paper = json.loads(minispike("energy", run, "--file", labelled, "--json", "--convention", "paper").out)
    assert paper["student"]["total_mj"] == pytest.approx(2 * found["student"]["total_mj"])
    words = minispike("energy", run, "--file", labelled).out
    assert "BERT of the same shape" in words
    assert "E = 4.6 pJ x MAC + 0.9 pJ x AC" in words


def test_load(finished: Finished) -> None:
    run = package.load(finished[0])
    assert run.label_names == ("negative", "positive")
    assert run.config == read_config(finished[0])
    logits = run.logits(SENTENCES)
    assert logits.shape == (2, 2)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, answer in zip(shares, run.predict(SENTENCES), strict=True):
        np.testing.assert_allclose(list(answer.probabilities.values()), row, rtol=1e-5)
        assert answer.label == run.label_names[int(row.argmax())]
    assert (run.predict([]), run.logits([]).shape) == ([], (0, 2))
    test = reviews().test
    assert run.evaluate(test).result.accuracy == np.mean(run.logits(test.texts).argmax(axis=1) == test.labels)
    assert run.energy(SENTENCES).sentences == 2
    assert all(0 <= rate <= 1 for rate in run.firing_rates(SENTENCES).values())


def test_load_tells_what_is_wrong(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a run folder, got no such folder"):
        package.load(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"got a folder without config\.toml"):
        package.load(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    (run / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        package.load(run)
    shutil.copy(run / "stage1.safetensors", run / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected 2 different names of labels, got none"):
        package.load(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="expected a run whose student is trained"):
        package.load(run)
