"""Runs that are damaged, or that leave the finite numbers: told, and nothing made worse."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import Outcome, assert_mistake, cut_short, distill, minispike

from minispike.checkpoint import load_tensors, save_tensors

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

from minispike.data.tokenizer import Tokenizer
from minispike.errors import RunFolderError
from minispike.runfolder import check_free

pytestmark = pytest.mark.usefixtures("quick_report")

Finished = tuple[Path, Outcome]


# ---- Runs


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    run = tmp_path / "copy"
    shutil.copytree(finished[0], run)
    return run


def test_a_truncated_student(copy: Path) -> None:
    cut_short(copy / "model.safetensors")
    outcome = minispike("predict", copy, "good")
    assert_mistake(outcome, "model.safetensors: expected a safetensors file, got SafetensorError")


def test_a_foreign_student(copy: Path) -> None:
    save_tensors(copy / "model.safetensors", {"weight": np.zeros(3)})
    assert_mistake(minispike("predict", copy, "good"), "expected a student with its configuration")
    shutil.copy(copy / "teacher" / "pretrained.safetensors", copy / "model.safetensors")
    assert_mistake(minispike("predict", copy, "good"), "expected a student with its configuration")


def test_a_student_of_other_shapes(copy: Path) -> None:
    weights, notes = load_tensors(copy / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"][:, :-1]
    save_tensors(copy / "model.safetensors", weights, notes)
    parts = (
        "model.safetensors: weights of SpikeBERT",
        "of another shape: classifier.weight (2, 15) instead of (2, 16)",
    )
    assert_mistake(minispike("predict", copy, "good"), *parts)
    notes["student"]["heads"] = 5
    save_tensors(copy / "model.safetensors", weights, notes)
    assert_mistake(minispike("predict", copy, "good"), "model.safetensors: heads: expected a divisor of dim")


def test_a_tokenizer_of_another_run(copy: Path) -> None:
    Tokenizer.train(["other words"], vocab_size=20).save(copy / "tokenizer.json")
    parts = ("tokenizer.json: expected 300 tokens, as many as the model embeds",)
    assert_mistake(minispike("evaluate", copy, "--file", "x.tsv"), *parts)


def test_damaged_run_folders(copy: Path) -> None:
    (copy / "state.json").write_text("[]", encoding="utf-8")
    assert_mistake(minispike("distill", "--resume", copy), "state.json: expected the record of a run")
    (copy / "state.json").unlink()
    assert_mistake(minispike("distill", "--resume", copy), "expected a run folder, got no state.json")
    (copy / "config.toml").write_text("sead = 3\n", encoding="utf-8")
    assert_mistake(minispike("distill", "--resume", copy), "config.toml: sead: expected one of the keys", "try seed")
    (copy / "config.toml").unlink()
    assert_mistake(minispike("distill", "--resume", copy), "got a folder without config.toml")
    assert_mistake(minispike("distill", "--resume", copy / "no"), "got no such folder")


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        ("truncated", ("checkpoint.safetensors: expected a safetensors file",)),
        ("foreign", ("checkpoint.safetensors: expected a checkpoint, got tensors of something else",)),
        ("other shapes", ("weights of SpikeBERT: expected the model's",)),
    ],
)
def test_bad_checkpoints(tmp_path: Path, fault: str, parts: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    path = run / "checkpoint.safetensors"
    assert diverged(run, "stage1").code == 2
    if fault == "truncated":
        cut_short(path)
    else:
        notes = load_tensors(path)[1] if fault == "other shapes" else {}
        save_tensors(path, {"model.weight": np.zeros(3)}, notes)
    state = (run / "state.json").read_bytes()
    assert_mistake(minispike("distill", "--resume", run), *parts)
    assert (run / "state.json").read_bytes() == state


# ---- Training


def diverged(run: Path, section: str, *more: str) -> Outcome:
    """A run that leaves the finite numbers in one of its phases, a checkpoint having been saved before."""
    settings = (f"{section}.learning_rate=1e30", f"{section}.warmup=0.5", f"{section}.weight_decay=0.0")
    with np.errstate(all="ignore"):
        return distill(run, *settings, "checkpoint_minutes=0.0", *more)


@pytest.mark.parametrize(
    ("section", "phase"),
    [
        ("teacher.pretraining", "pretrain teacher"),
        ("teacher.finetuning", "fine-tune teacher"),
        ("stage1", "stage 1"),
        ("stage2", "stage 2"),
    ],
)
def test_a_loss_that_is_no_number(tmp_path: Path, section: str, phase: str) -> None:
    run = tmp_path / "run"
    outcome = diverged(run, section, f"{section}.clip=0.0")
    parts = (f"{phase}, step ", "expected a finite number, got ", f"the checkpoint {run / 'checkpoint.safetensors'}")
    assert_mistake(outcome, *parts)
    weights, notes = load_tensors(run / "checkpoint.safetensors")
    assert notes["phase"] == phase
    assert all(np.isfinite(array).all() for name, array in weights.items() if name.startswith("model."))
    assert f"{phase}, step {notes['step']}: " in outcome.err  # the step after the last good one


@pytest.mark.parametrize("steps", [8, 1], ids=["before a checkpoint", "in the last step"])
def test_weights_that_the_last_step_has_ruined_are_not_kept(tmp_path: Path, steps: int) -> None:
    """The loss was a number; the step after it makes weights that are none, and the next loss would come too late."""
    settings = ("stage1.learning_rate=1e39", "stage1.clip=0.0", "stage1.warmup=0.0", f"stage1.steps={steps}")
    with np.errstate(all="ignore"):
        outcome = distill(tmp_path / "run", *settings, "checkpoint_minutes=0.0")
    assert_mistake(outcome, "stage 1, step 0: the sum of ", "expected a finite number")
    assert not (tmp_path / "run" / "stage1.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_configuration_that_has_lost_its_end(copy: Path) -> None:
    text = (copy / "config.toml").read_text(encoding="utf-8")
    (copy / "config.toml").write_text(text[: text.index("[stage2]")], encoding="utf-8")
    parts = ("config.toml: expected every setting of the run", "nothing for stage2.")
    assert_mistake(minispike("distill", "--resume", copy), *parts)


def test_what_a_run_leaves_that_was_killed_at_once(tmp_path: Path) -> None:
    """A state without a configuration, or a file half written: a new run begins there, and other files forbid it."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "state.json").write_text("{}", encoding="utf-8")
    (run / ".config.toml.x1.part").write_text("seed", encoding="utf-8")
    check_free(run)
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError, match="got other files"):
        check_free(run)


def test_the_folder_of_several_runs_names_one(copy: Path, tmp_path: Path) -> None:
    several = tmp_path / "several"
    several.mkdir()
    copy.rename(several / "seed-0")
    assert_mistake(minispike("predict", several, "good"), "got a folder of several runs", f"try {several / 'seed-0'}")


def test_a_run_that_diverged_goes_on_with_a_smaller_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minispike.summary.write_report", lambda *_: None)
    run = tmp_path / "run"
    assert diverged(run, "stage2").code == 2
    with np.errstate(all="ignore"):
        again = minispike("distill", "--resume", run)
    assert_mistake(again, "stage 2, step ", "config.toml before --resume")
    text = (run / "config.toml").read_text(encoding="utf-8")
    (run / "config.toml").write_text(text.replace("learning_rate = 1e+30", "learning_rate = 1e-3"), encoding="utf-8")
    (run / "checkpoint.safetensors").unlink()
    assert minispike("distill", "--resume", run).code == 0
