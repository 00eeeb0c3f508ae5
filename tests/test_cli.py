"""The command line: what each command prints, leaves behind and returns."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TEACHER, Outcome, assert_mistake, distill, minispike, results

import minispike as package
from minispike.cli import main
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.errors import CheckpointError, DataError, RunFolderError
from minispike.runfolder import read_config
from minispike.seeds import spread

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

Finished = tuple[Path, Outcome]
SENTENCES = ("not a good film at all .", "although the plot is dull , i loved this film .")
EXTRAS = ("tokenizers", "onnx", "onnxruntime", "safetensors", "tqdm", "threadpoolctl", "matplotlib", "cupy")
MODELS = ("majority class", "bag of words", "teacher", "student", "direct")


def reviews() -> Any:
    """The corpus of the tiny run."""
    return build_reviews(ReviewsConfig(labelled=200, dev=40, test=60, unlabelled=100))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's test set as a file."""
    path = tmp_path_factory.mktemp("data") / "test.tsv"
    test, names = reviews().test, reviews().label_names
    rows = [f"{text}\t{names[label]}" for text, label in zip(test.texts, test.labels, strict=True)]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bare(*argv: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that has no package but NumPy; it lists the modules it has loaded at the end."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "from minispike.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(*sorted(name for name in sys.modules if name.startswith('minispike')), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, timeout=60)


# ---- Without a run


def test_help_and_doctor_need_numpy_alone() -> None:
    shown = bare("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("distill", "teacher", "evaluate", "predict", "energy", "doctor"))
    assert "minispike.config" not in shown.stderr.split()  # nothing heavy was imported
    doctor = bare("doctor")
    assert doctor.returncode == 0, doctor.stderr
    assert "minispike.pipeline" not in doctor.stderr.split()
    for line in (f"NumPy {np.__version__}", "numpy (in use)", 'pip install "minispike[viz]"', "cupy: not usable"):
        assert line in doctor.stdout
    assert doctor.stdout.count("missing") == 7


def test_doctor_tells_versions_threads_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPIKE_BACKEND", "cupy")
    said = minispike("doctor")
    assert said.code == 0
    for part in ("tokenizers", "cores", "threads: ", "MINISPIKE_BACKEND cupy", "cupy (in use)"):
        assert part in said.out


def test_a_run_without_the_extras_names_them_before_it_begins(tmp_path: Path) -> None:
    run = bare("distill", "--out", str(tmp_path / "run"))
    assert run.returncode == 2
    assert "expected safetensors, tokenizers" in run.stderr
    assert 'try pip install "minispike[distill,viz]"' in run.stderr
    assert not (tmp_path / "run").exists()


def test_version_and_mistakes_of_argparse() -> None:
    assert minispike("--version").out == f"minispike {package.__version__}\n"
    for argv in ([], ["distil"], ["predict"], ["distill", "--seed", "x"], ["distill", "--pres", "tiny"], ["teacher"]):
        outcome = minispike(*argv)
        assert outcome.code == 2
        assert "usage: minispike" in outcome.err


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minispike", "predict", "nowhere", "fine"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == (
        "nowhere: expected a run folder, got no such folder; try a folder that minispike distill wrote\n"
    )


def test_settings_are_listed_and_the_last_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def value(key: str, *flags: object) -> str:
        lines = minispike("distill", "--list-settings", *flags).out.splitlines()
        (line,) = [line for line in lines if line.startswith(f"{key} = ")]
        return line.removeprefix(f"{key} = ").split("  ")[0]

    file = tmp_path / "own.toml"
    file.write_text('preset = "mini"\nseed = 5\n[stage2]\nsteps = 50\nbatch_size = 5\n', encoding="utf-8")
    assert (value("preset"), value("student.depth")) == ('"tiny"', "3")
    assert (value("preset", "--data", "x"), value("student.depth", "--data", "x")) == ('"mini"', "4")
    assert value("preset", "--set", "data.path=x") == '"mini"'
    assert value("preset", "--data", "x", "--preset", "tiny") == '"tiny"'
    assert (value("preset", "--config", file), value("student.depth", "--config", file)) == ('"mini"', "4")
    assert value("preset", "--config", file, "--preset", "base") == '"base"'
    assert (value("seed", "--config", file), value("seed", "--config", file, "--seed", 7)) == ("5", "7")
    assert value("seed", "--config", file, "--seed", 7, "--set", "seed=8") == "8"
    assert value("stage2.steps", "--config", file, "--set", "stage2.steps=60", "stage2.clip=0.0") == "60"
    assert value("stage2.batch_size", "--config", file, "--set", "stage2.steps=60") == "5"
    monkeypatch.setenv("MINISPIKE_BACKEND", "cupy")
    assert (value("backend"), value("backend", "--backend", "numpy")) == ('"cupy"', '"numpy"')


# ---- A run


def test_a_run_prints_configuration_table_energy_and_report(finished: Finished) -> None:
    run, said = finished
    assert "student.dim                       = 16" in said.out
    table = said.out.split("\n\n")[-2].splitlines()
    assert table[0].split() == ["model", "accuracy", "95", "%", "interval", "macro", "F1"]
    assert [line.split("  ")[0] for line in table[1:]] == list(MODELS)
    assert "energy of a sentence: " in said.out
    assert "% of a BERT of the same shape" in said.out
    assert "% of the teacher" in said.out
    assert said.out.endswith(f"report: {run / 'report.html'}\n")


def test_a_run_leaves_all_its_files(finished: Finished) -> None:
    run, _ = finished
    names = {path.name for path in run.iterdir()}
    assert {"config.toml", "metrics.jsonl", "state.json", "model.safetensors", "tokenizer.json"} <= names
    assert "checkpoint.safetensors" not in names
    assert not list(run.rglob(".*"))
    done = json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
    assert list(done["evaluation"]["table"]) == list(MODELS)
    assert 0 < done["energy"]["twin"]["student_share"] < 1
    assert done["energy"]["sentences"] == 60
    page = (run / "report.html").read_text(encoding="utf-8")
    for part in ("Results", "Energy", "Firing rates", "Training", "One sentence in spikes", "direct training"):
        assert part in page
    assert "majority class" in page
    assert "seed 0; backend numpy" in page


def test_a_finished_run_is_only_told_again(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = finished
    before = snapshot(run)
    monkeypatch.setattr("minispike.pipeline.read_inputs", lambda *_: pytest.fail("the inputs were read again"))
    again = minispike("distill", "--resume", run)
    assert (again.code, again.err) == (0, "")
    assert again.out.strip() == said.out[said.out.index("\nmodel") :].strip()
    assert snapshot(run) == before


def test_no_run_begins_in_an_occupied_folder(finished: Finished, tmp_path: Path) -> None:
    run, _ = finished
    before = snapshot(run)
    assert_mistake(distill(run), f"{run}: expected a new or empty folder, got a run", f"--resume {run}")
    assert snapshot(run) == before
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert_mistake(distill(tmp_path), "got other files", "another --out")
    assert_mistake(distill(tmp_path / "file"), "got a file")
    assert_mistake(distill(tmp_path, flags=["--seeds", 2]), "got other files")
    assert snapshot(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("flags", [["--seed", 1], ["--set", "seed=1"], ["--data", "x"], ["--out", "x"], ["--seeds", 2]])
def test_resume_takes_no_settings(finished: Finished, flags: list[object]) -> None:
    outcome = minispike("distill", "--resume", finished[0], *flags)
    assert_mistake(outcome, "--resume: expected no settings beside it", f"got {flags[0]};")


def test_the_default_folder_bears_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Path] = []

    def stop(_: Any, out: Path, **__: Any) -> None:
        asked.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr("minispike.commands.distill.distill", stop)
    assert minispike("distill") == Outcome(130, "", "")  # nothing is there to be resumed
    assert re.fullmatch(r"runs.\d{8}-\d{6}", str(asked[0]))


# ---- Asking it


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
    pair = json.loads(minispike("predict", run, f"{SENTENCES[0]}\t{SENTENCES[1]}", "--json").out)
    assert pair[0]["probabilities"] != answers[0]["probabilities"]


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
    with pytest.raises(CheckpointError, match="expected the names of 2 labels, got 0"):
        package.load(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="expected a run whose student is trained"):
        package.load(run)


# ---- Several seeds


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which are most of a tiny run's time."""

    def write(path: Path, _: Any) -> None:
        path.write_text("report", encoding="utf-8")

    monkeypatch.setattr("minispike.summary.write_report", write)


@pytest.mark.usefixtures("quick_report")
def test_seeds_are_run_told_and_resumed(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "seeds"
    with monkeypatch.context() as patch:
        interrupt(patch, "stage 2", step=3, skip=1)
        stopped = distill(out, "checkpoint_minutes=0", flags=["--seeds", 2])
    assert stopped.code == 130
    assert f"minispike distill --resume {out}" in stopped.err
    assert json.loads((out / "seeds.json").read_text(encoding="utf-8"))["seeds"] == [0, 1]
    first = snapshot(out / "seed-0")
    resumed = minispike("distill", "--resume", out)
    assert resumed.code == 0, resumed.err
    assert snapshot(out / "seed-0") == first
    assert (read_config(out / "seed-0").seed, read_config(out / "seed-1").seed) == (0, 1)
    assert results(out / "seed-0")["metrics"] == results(finished[0])["metrics"]
    assert results(out / "seed-1")["metrics"] != results(finished[0])["metrics"]
    told = resumed.out.split("2 seeds\n")[1].splitlines()
    tables = [results(out / f"seed-{seed}")["state"]["done"]["evaluation"]["table"] for seed in (0, 1)]
    for line, name in zip(told[1:], MODELS, strict=True):
        shares = [100 * table[name]["accuracy"] for table in tables]
        mean, deviation = np.mean(shares), np.std(shares, ddof=1)
        assert line.split()[-4:] == [f"{mean:.2f}", "%", f"{deviation:.2f}", "%"]
    assert minispike("distill", "--resume", out).out.count("report: ") == 2


def test_spread_is_the_sample_standard_deviation() -> None:
    runs = {seed: {"evaluation": {"table": {"student": {"accuracy": a}}}} for seed, a in enumerate((0.7, 0.8, 0.9))}
    mean, deviation = spread(runs)["student"]
    assert (mean, deviation) == (pytest.approx(0.8), pytest.approx(0.1))
    assert spread({0: runs[0]})["student"] == (0.7, 0.0)


def test_no_seeds_is_a_mistake(tmp_path: Path) -> None:
    assert_mistake(distill(tmp_path / "run", flags=["--seeds", 0]), "--seeds: expected a number >= 1, got 0")
    (tmp_path / "seeds.json").write_text("{}", encoding="utf-8")
    assert_mistake(minispike("distill", "--resume", tmp_path), "expected a plan of seeds")


# ---- Teachers


def interrupt(monkeypatch: pytest.MonkeyPatch, phase: str, step: int, skip: int = 0) -> None:
    """Press Ctrl-C when the journal hears of a step; let that pass ``skip`` times."""
    from minispike.train.journal import Journal

    write, left = Journal.write, [skip]

    def watched(self: Journal, **fields: Any) -> None:
        write(self, **fields)
        if (fields["phase"], fields["step"]) == (phase, step) and "loss" in fields:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", watched)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a pretrained and a fine-tuned teacher, ``bert`` and ``task``, and the data ``data``."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "text.txt").write_text("\n".join(reviews().unlabelled), encoding="utf-8")
    (folder / "data").mkdir()
    for name in ("train", "dev", "test"):
        split = getattr(reviews(), name)
        rows = [f"{text}\t{'no yes'.split()[label]}" for text, label in zip(split.texts, split.labels, strict=True)]
        (folder / "data" / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    said = minispike("teacher", "pretrain", "--text", folder / "text.txt", "--out", folder / "bert", "--set", *TEACHER)
    assert said.code == 0, said.err
    assert "minispike distill --teacher" in said.out
    said = minispike(
        "teacher", "finetune", "--teacher", folder / "bert", "--data", folder / "data", "--out", folder / "task",
        "--set", *TEACHER,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "teacher.finetune=false" in said.out
    yield folder


def test_made_teachers_have_the_layout_of_hugging_face(made: Path) -> None:
    for name in ("bert", "task"):
        assert {"config.json", "model.safetensors", "tokenizer.json", "model.onnx"} <= {
            path.name for path in (made / name).iterdir()
        }
    config = json.loads((made / "task" / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert config["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize("form", ["folder to fine-tune", "folder as it is", "onnx"])
def test_a_made_teacher_teaches(made: Path, tmp_path: Path, form: str) -> None:
    teacher = {"folder to fine-tune": "bert", "folder as it is": "task", "onnx": "task/model.onnx"}[form]
    flags = ["--teacher", made / teacher, "--data", made / "data", "--preset", "tiny"]
    settings = ["teacher.finetune=false"] if form == "folder as it is" else []
    run = tmp_path / "run"
    said = distill(run, *settings, flags=flags)
    assert said.code == 0, said.err
    state = json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
    assert ("fine-tune teacher" in state) == (form == "folder to fine-tune")
    assert package.load(run).label_names == ("no", "yes")
    assert ("% of the teacher" in said.out) == (form != "onnx")
    if form != "folder to fine-tune":
        dev = results(made / "task")["state"]["done"]["fine-tune teacher"]["test"]
        assert state["evaluation"]["table"]["teacher"] == pytest.approx(dev)


def test_convert(made: Path, tmp_path: Path) -> None:
    said = minispike("teacher", "convert", "--teacher", made / "task", "--out", tmp_path / "a")
    assert said.code == 0, said.err
    assert "2 layers of width 16, 300 tokens, 2 labels" in said.out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"model.onnx", "tokenizer.json"}
    foreign = hide_states(tmp_path / "a" / "model.onnx", tmp_path / "foreign.onnx")
    said = minispike("teacher", "convert", "--teacher", foreign, "--out", tmp_path / "b")
    assert said.code == 0, said.err
    assert "has no tokenizer beside it" in said.out
    outputs = [run_onnx(tmp_path / name / "model.onnx") for name in ("a", "b")]
    assert outputs[0].keys() == outputs[1].keys() == {"hidden_states.0", "hidden_states.1", "hidden_states.2", "logits"}
    for name, array in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], array, rtol=1e-5, atol=1e-6)
    assert_mistake(minispike("teacher", "convert", "--teacher", foreign, "--out", tmp_path / "b"), "got other files")


def hide_states(source: Path, target: Path) -> Path:
    """A model with the logits as its only output, as others export it."""
    import onnx

    model = onnx.load(source)
    kept = [output for output in model.graph.output if output.name == "logits"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, target)
    return target


def run_onnx(path: Path) -> dict[str, Any]:
    """Every output of a model for one sentence."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 9, 3]])
    names = [output.name for output in session.get_outputs()]
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(("job", "phase"), [("pretrain", "pretrain teacher"), ("finetune", "fine-tune teacher")])
def test_an_interrupted_teacher_is_taken_up(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, phase: str
) -> None:
    source = ["--text", made / "text.txt"]
    if job == "finetune":
        source = ["--teacher", made / "bert", "--data", made / "data"]
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, phase, step=5)
        stopped = minispike("teacher", job, *source, "--out", out, "--set", *TEACHER, "checkpoint_minutes=0")
    assert stopped.code == 130
    assert f"minispike teacher {job} --resume {out}" in stopped.err
    assert not (out / "model.onnx").exists()
    assert_mistake(minispike("distill", "--resume", out), f"got one of minispike teacher {job}")
    assert_mistake(minispike("teacher", job, "--resume", out, "--seed", 3), "--resume: expected no settings")
    resumed = minispike("teacher", job, "--resume", out)
    assert resumed.code == 0, resumed.err
    assert results(out) == results(made / {"pretrain": "bert", "finetune": "task"}[job])
    assert minispike("teacher", job, "--resume", out).out == resumed.out[resumed.out.index("\n\n") + 1 :]


def test_teachers_need_a_source_and_a_place(tmp_path: Path) -> None:
    assert_mistake(minispike("teacher", "pretrain", "--text", "x"), "--out: expected a path")
    assert_mistake(minispike("teacher", "pretrain", "--out", tmp_path / "a"), "data.text: expected a path")
    assert_mistake(minispike("teacher", "finetune", "--out", tmp_path / "a"), "teacher.path: expected a path")
    assert not (tmp_path / "a").exists()


# ---- Endings


def test_a_mistake_shows_its_traceback_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_mistake(minispike("predict", "nowhere", "fine"), "nowhere: expected a run folder")
    monkeypatch.setenv("MINISPIKE_DEBUG", "1")
    shown = minispike("predict", "nowhere", "fine")
    assert shown.code == 2
    assert "Traceback" in shown.err
    assert shown.err.splitlines()[-1].startswith("nowhere: expected")


def test_files_that_cannot_be_had_are_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_mistake(distill(tmp_path / "run"), "/somewhere: expected access, got Permission denied")


def test_the_answers_survive_a_narrow_terminal(finished: Finished) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    argv = [sys.executable, "-m", "minispike", "predict", str(finished[0]), "很好 ."]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\t\\u5f88\\u597d .\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes break otherwise elsewhere")
def test_a_reader_that_has_gone_is_no_mistake(finished: Finished) -> None:
    argv = [sys.executable, "-m", "minispike", "predict", str(finished[0]), *["a good film ."] * 4000]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_main_takes_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["minispike", "--version"])
    assert main() == 0
