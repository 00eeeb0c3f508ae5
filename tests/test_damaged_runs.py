"""Runs of another version, and runs whose records are damaged: read as far as it goes, told, and left as they are."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import Outcome, assert_mistake, cut_short, distill, interrupt, minispike, snapshot

import minispike as package

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

from minispike import backend
from minispike.checkpoint import load_tensors, save_tensors
from minispike.runfolder import read_config

pytestmark = pytest.mark.usefixtures("quick_report")

Finished = tuple[Path, Outcome]
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    run = tmp_path / "copy"
    shutil.copytree(finished[0], run)
    return run


def change(path: Path, how: Change) -> None:
    """Alter a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    how(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def undo(run: Path, *phases: str) -> None:
    """Let a finished run be one whose last phases are not done."""
    change(run / "state.json", lambda state: [state["done"].pop(phase) for phase in phases])


def leave_out(run: Path, *beginnings: str) -> None:
    """Take settings out of a configuration, by the beginnings of their lines."""
    lines = (run / "config.toml").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(beginnings)]
    assert len(kept) < len(lines)
    (run / "config.toml").write_text("\n".join(kept), encoding="utf-8")


def assert_refused(run: Path, *parts: str) -> None:
    """The run is not resumed, the mistake is told, and nothing is written."""
    before = snapshot(run)
    assert_mistake(minispike("distill", "--resume", run), *parts)
    assert snapshot(run) == before


# ---- Other versions


def test_a_run_notes_its_version(finished: Finished) -> None:
    state = json.loads((finished[0] / "state.json").read_text(encoding="utf-8"))
    assert state["version"] == package.__version__


def test_a_finished_run_answers_without_the_settings_of_a_later_version(copy: Path, finished: Finished) -> None:
    before = minispike("predict", copy, "good", "not good")
    leave_out(copy, "checkpoint_minutes", "threads", "mask_padding", "steps")
    assert read_config(copy, needed=()).checkpoint_minutes == 5.0
    assert minispike("predict", copy, "good", "not good") == before
    (copy / "x.tsv").write_text("text\tlabel\ngood\tpositive\nbad\tnegative\n", encoding="utf-8")
    for command in ("evaluate", "energy"):
        answers = [minispike(command, run, "--file", copy / "x.tsv") for run in (copy, finished[0])]
        assert answers[0].code == 0 and answers[0] == answers[1]


def test_a_setting_that_loading_uses_is_not_made_up(copy: Path) -> None:
    leave_out(copy, "max_length")
    parts = ("config.toml: expected every setting of the run", "nothing for data.max_length;")
    assert_mistake(minispike("predict", copy, "good"), *parts)


def test_resume_takes_no_default_for_a_setting_and_names_both_versions(copy: Path) -> None:
    leave_out(copy, "checkpoint_minutes")
    parts = ("config.toml: expected every setting of the run, got nothing for checkpoint_minutes",)
    assert_refused(copy, *parts, "as the run has written it")
    assert package.__version__ not in minispike("distill", "--resume", copy).err
    change(copy / "state.json", lambda state: state.update(version="0.0.9"))
    assert_refused(copy, *parts, f"or minispike 0.0.9, which wrote the file (this is {package.__version__})")


def test_resume_names_both_versions_where_one_knows_no_such_setting(copy: Path) -> None:
    text = (copy / "config.toml").read_text(encoding="utf-8")
    (copy / "config.toml").write_text("of_later = 3\n" + text, encoding="utf-8")
    change(copy / "state.json", lambda state: state.update(version="9.9"))
    assert_refused(copy, "config.toml: of_later: expected one of the keys", "or minispike 9.9, which wrote the file")


# ---- state.json


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda s: s.pop("journal"), "no journal"),
        (lambda s: s.update(journal="5"), 'journal = "5" (str) instead of int'),
        (lambda s: s.update(version=1), "version = 1 (int) instead of str"),
        (lambda s: s.update(done=[]), "done = [] (list) instead of section"),
        (lambda s: s.update(done={"report": 3}), "done.report = 3 (int) instead of section"),
        (lambda s: s.update(done={"report": {}}), "no done.texts"),
        (lambda s: s["done"]["texts"].pop("digest"), "no done.texts.digest"),
        (lambda s: s["done"]["evaluation"].pop("table"), "no done.evaluation.table"),
        (lambda s: s["done"]["evaluation"]["table"].update(student=0.9), "done.evaluation.table.student = 0.9 (float)"),
        (lambda s: s["done"]["evaluation"]["table"]["student"].pop("low"), "no done.evaluation.table.student.low"),
        (lambda s: s["done"]["energy"].pop("twin"), "no done.energy.twin"),
        (lambda s: s["done"]["energy"]["teacher"].update(student_share=None), "done.energy.teacher.student_share"),
        (lambda s: s["done"]["stage 1"].update(seconds="long"), 'done.stage 1.seconds = "long" (str) instead of float'),
    ],
)
@pytest.mark.parametrize("finished_too", [True, False], ids=["finished", "under way"])
def test_a_damaged_state(copy: Path, how: Change, told: str, finished_too: bool) -> None:
    if not finished_too:
        undo(copy, "report")
    change(copy / "state.json", how)
    assert_refused(copy, "state.json: expected the record of a run", f"got {told}", "try a copy of the folder")
    assert minispike("predict", copy, "good").code == 0


@pytest.mark.parametrize("content", ["", "{", "null", '{"done": {}}'])
def test_a_state_that_is_none(copy: Path, content: str) -> None:
    (copy / "state.json").write_text(content, encoding="utf-8")
    assert_refused(copy, "state.json: expected the record of a run, got ")


def test_the_state_of_a_teacher(tmp_path: Path, copy: Path) -> None:
    facts = {"seconds": 1.0, "parameters": 9, "dev": 0.5}
    change(copy / "state.json", lambda s: s.update(job="teacher finetune", done={"fine-tune teacher": facts}))
    outcome = minispike("teacher", "finetune", "--resume", copy)
    assert_mistake(outcome, "state.json: expected the record of a run, got no done.fine-tune teacher.test")


# ---- Other records


def test_a_damaged_energy(copy: Path) -> None:
    undo(copy, "report")
    whole = (copy / "energy.json").read_bytes()
    anew = f"or the run anew: minispike distill --config {copy / 'config.toml'} --out FOLDER"
    for content in ("{", "[]", '{"energy": 3, "rates": {}}'):
        (copy / "energy.json").write_text(content, encoding="utf-8")
        outcome = minispike("distill", "--resume", copy)
        assert_mistake(outcome, "energy.json: expected the energy of a student", anew)
    (copy / "energy.json").write_bytes(whole)
    change(copy / "energy.json", lambda e: e["energy"]["twin"]["rows"][0].pop("macs"))
    assert_mistake(minispike("distill", "--resume", copy), "got no energy.twin.rows[0].macs")


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ({"labels": 5}, "labels = 5 (int) instead of list"),
        ({"labels": [1, 2]}, "labels[0] = 1 (int) instead of str"),
        ({"pairs": "yes"}, 'pairs = "yes" (str) instead of bool'),
        ({"student": [1]}, "student = [1] (list) instead of section"),
    ],
)
def test_damaged_notes_on_the_student(copy: Path, notes: Mapping[str, Any], told: str) -> None:
    weights, own = load_tensors(copy / "model.safetensors")
    save_tensors(copy / "model.safetensors", weights, own | dict(notes))
    outcome = minispike("predict", copy, "good")
    assert_mistake(outcome, f"model.safetensors: expected a student with its configuration, got {told}")


def test_damaged_notes_on_the_teacher(copy: Path) -> None:
    path = copy / "teacher" / "finetuned.safetensors"
    weights, notes = load_tensors(path)
    (copy / "x.tsv").write_text("text\ngood\n", encoding="utf-8")
    cases: list[tuple[dict[str, Any], str]] = [({}, "tensors of something else"), ({"config": 1}, "config = 1 (int)")]
    config = notes["config"]
    save_tensors(path, weights, {"config": config | {"pooling": "cls"}})  # of another version, perhaps
    assert minispike("energy", copy, "--file", copy / "x.tsv").code == 0
    save_tensors(path, weights, {"config": config | {"num_attention_heads": 0}})
    outcome = minispike("energy", copy, "--file", copy / "x.tsv")
    assert_mistake(outcome, "finetuned.safetensors: expected the shape of a BERT, got num_attention_heads: expected a")
    config.pop("hidden_size")
    for damaged, told in (*cases, (notes, "no config.hidden_size")):
        save_tensors(path, weights, damaged)
        outcome = minispike("energy", copy, "--file", copy / "x.tsv")
        assert_mistake(outcome, f"finetuned.safetensors: expected a teacher with its shape, got {told}")


def test_a_line_of_the_journal_without_a_phase(copy: Path) -> None:
    undo(copy, "report")
    path = copy / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"phase"', b'"phrase"', 1))
    change(copy / "state.json", lambda state: state.update(journal=path.stat().st_size))
    outcome = minispike("distill", "--resume", copy)
    assert_mistake(outcome, "metrics.jsonl:1: expected a line of the journal, got no phase", "try removing the line")


# ---- Files that are lost


@pytest.mark.parametrize("fault", ["garbage", "notes"])
def test_a_damaged_checkpoint_can_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain teacher", step=5)
        assert distill(run, "checkpoint_minutes=0.0").code == 130
    path = run / "checkpoint.safetensors"
    if fault == "garbage":
        path.write_bytes(b"garbage")
    else:
        weights, notes = load_tensors(path)
        save_tensors(path, weights, notes | {"journal": "far"})
    assert_refused(run, "checkpoint.safetensors: expected a", "try deleting it: the phase begins anew")
    path.unlink()
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain teacher", step=0)
        assert minispike("distill", "--resume", run).code == 130  # it has begun anew


@pytest.mark.parametrize("fault", ["lost", "cut short"])
@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("stage1.safetensors", ("stage 2", "direct training", "evaluation", "energy", "report")),
        ("teacher/pretrained.onnx", ("report",)),
        ("teacher/finetuned.onnx", ("report",)),
        ("teacher/pretrained.safetensors", ("fine-tune teacher", "stage 1", "stage 2", "report")),
        ("model.safetensors", ("evaluation", "energy", "report")),
    ],
)
def test_a_lost_file_of_a_phase_that_is_done(copy: Path, name: str, phases: tuple[str, ...], fault: str) -> None:
    undo(copy, *phases)
    (copy / name).unlink() if fault == "lost" else cut_short(copy / name)
    parts = (Path(name).name, f"the run anew: minispike distill --config {copy / 'config.toml'} --out FOLDER")
    assert_refused(copy, *parts)


def test_the_run_anew_is_the_same_run(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain teacher", step=0)
        minispike("distill", "--config", finished[0] / "config.toml", "--out", tmp_path / "anew")
    assert read_config(tmp_path / "anew") == read_config(finished[0])


@pytest.mark.parametrize("size", [None, 10], ids=["lost", "cut short"])
def test_nothing_is_written_where_the_journal_is_lost(copy: Path, size: int | None) -> None:
    undo(copy, "report")
    (copy / ".state.json.x1.part").write_text("half", encoding="utf-8")
    path = copy / "metrics.jsonl"
    whole = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(whole[:size])
    told = f"{size} bytes" if size else "no file"
    assert_refused(copy, f"metrics.jsonl: expected {len(whole)} bytes or more, got {told}", "the run anew")


# ---- Several seeds, and other machines


@pytest.fixture
def plan(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of two runs that was interrupted in the first."""
    out = tmp_path / "seeds"
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain teacher", step=0)
        assert distill(out, flags=["--seeds", 2]).code == 130
    return out


def test_a_damaged_plan_of_seeds(plan: Path) -> None:
    whole = (plan / "seeds.json").read_bytes()
    faults: list[tuple[Change, str]] = [
        (lambda p: p.pop("seeds"), "expected a plan of seeds, got no seeds"),
        (lambda p: p.update(seeds=["0"]), 'expected a plan of seeds, got seeds[0] = "0" (str) instead of int'),
        (lambda p: p.update(seeds=[]), "expected a plan of seeds, got no seed"),
        (lambda p: p.update(config=3), "expected a plan of seeds, got config = 3 (int) instead of section"),
        (lambda p: p["config"]["stage2"].pop("steps"), "expected every setting of the run, got nothing for stage2."),
        (lambda p: p["config"].update(sead=3), "sead: expected one of the keys"),
    ]
    for how, told in faults:
        (plan / "seeds.json").write_bytes(whole)
        change(plan / "seeds.json", how)
        assert_refused(plan, f"seeds.json: {told}")
    change(plan / "seeds.json", lambda p: p.update(version="0.0.9"))
    assert_refused(plan, f"or minispike 0.0.9, which wrote the file (this is {package.__version__})")


def test_the_advice_where_there_is_no_gpu_works(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undo(copy, "report")
    monkeypatch.delitem(backend._modules, "cupy", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(backend, "_current", None)
    text = (copy / "config.toml").read_text(encoding="utf-8").replace('backend = "cupy"', 'backend = "numpy"')
    (copy / "config.toml").write_text(text.replace('backend = "numpy"', 'backend = "cupy"'), encoding="utf-8")
    assert_refused(copy, "backend 'cupy': expected", "(with --resume RUN: the setting backend in RUN/config.toml")
    (copy / "config.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("minispike.summary.write_report", lambda *_: None)
    assert minispike("distill", "--resume", copy).code == 0
