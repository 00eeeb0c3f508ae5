"""The command line: what each command prints, leaves behind and returns."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import BRIEF, MODELS, Outcome, assert_mistake, distill, minispike, snapshot

import minispike as package
from minispike import backend
from minispike.cli import main
from minispike.config import preset
from minispike.settings import to_toml

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

Finished = tuple[Path, Outcome]
EXTRAS = ("tokenizers", "onnx", "onnxruntime", "safetensors", "tqdm", "threadpoolctl", "matplotlib", "cupy")


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
    assert all(
        name in shown.stdout for name in ("distill", "teacher", "evaluate", "predict", "energy", "profile", "doctor")
    )
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


def test_doctor_imports_what_it_reports(tmp_path: Path) -> None:
    """A package whose files and metadata are there, and whose compiled part is not."""
    for name in ("onnx", "threadpoolctl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('raise OSError("libgone.so.1:\\n no such file")', encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "MINISPIKE_BACKEND": "cuda"}
    done = subprocess.run(
        [sys.executable, "-m", "minispike", "doctor"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("onnx", "threadpoolctl"):
        (line,) = (line for line in lines if line.split()[0] == name)
        assert "broken; OSError: libgone.so.1: no such file; pip install --force-reinstall" in line
    (line,) = (line for line in lines if line.split()[0] == "tokenizers")
    assert re.fullmatch(r"  tokenizers +\d+\.\d+\S*", line)
    (line,) = (line for line in lines if line.startswith("  cuda (in use): "))
    assert "MINISPIKE_BACKEND: expected numpy or cupy, got 'cuda'; try MINISPIKE_BACKEND=cupy" in line


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
    tiny, mini = (str(preset(name).student.dim) for name in ("tiny", "mini"))
    assert (value("preset"), value("student.dim")) == ('"tiny"', tiny)
    assert (value("preset", "--data", "x"), value("student.dim", "--data", "x")) == ('"mini"', mini)
    for setting in ("data.path=x", " data.path = x", 'data={path="x"}'):
        assert (value("preset", "--set", setting), value("student.dim", "--set", setting)) == ('"mini"', mini)
    whole = tmp_path / "whole.toml"
    whole.write_text(to_toml(preset("tiny")), encoding="utf-8")
    for wrong, told in (
        (("--set", " preset=mini"), "preset: expected a flag of its own, got --set; try --preset mini"),
        (("--config", whole, "--preset", "mini"), "--preset: expected a file that leaves settings to it, got"),
        (("--data", ""), "--data: expected a value, got nothing; try leaving --data out"),
    ):
        outcome = minispike("distill", "--list-settings", *wrong)
        assert outcome.code == 2 and told in outcome.err
    for phase in ("teacher.pretraining", "teacher.finetuning", "stage1", "stage2"):
        assert (value(f"{phase}.low_memory"), value(f"{phase}.low_memory", "--low-memory")) == ("false", "true")
    assert value("stage1.low_memory", "--low-memory", "--set", "stage1.low_memory=false") == "false"
    assert value("preset", "--data", "x", "--preset", "tiny") == '"tiny"'
    assert (value("preset", "--config", file), value("student.dim", "--config", file)) == ('"mini"', mini)
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
    told = said.err[: said.err.index("pretrain teacher")].splitlines()
    assert told[0] == "data: 200 training, 40 dev, 60 test sentences; 100 unlabelled"
    assert [line.split(":")[1].strip() for line in told[2:6]] == ["train", "dev", "test", "unlabelled"]
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
    assert f"seed 0; backend {backend.current()}" in page


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


@pytest.mark.parametrize(
    "flags", [["--seed", 0], ["--low-memory"], ["--set", "seed=1"], ["--data", "x"], ["--out", "x"], ["--seeds", 2]]
)
def test_resume_takes_no_settings(finished: Finished, flags: list[object]) -> None:
    outcome = minispike("distill", "--resume", finished[0], *flags)
    assert_mistake(outcome, "--resume: expected no settings beside it", f"got {flags[0]};")


def test_the_default_folder_bears_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Path] = []

    def stop(_: Any, out: Path, *__: Any, **___: Any) -> None:
        asked.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr("minispike.commands.distill.distill", stop)
    assert minispike("distill") == Outcome(130, "", "")  # nothing is there to be resumed
    assert re.fullmatch(r"runs.\d{8}-\d{6}", str(asked[0]))


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


def test_a_full_disk_is_told_with_the_file_and_the_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = distill(tmp_path / "run")
    assert_mistake(outcome, f"{tmp_path / 'run'}", "expected room on the disk, got No space left", "--resume RUN")


@pytest.mark.skipif(os.name != "posix", reason="closes files as a POSIX shell does")
@pytest.mark.parametrize(
    "closed",
    [">&- 2>&-", "2>&1 | head -c 1", *(pytest.param(one, marks=pytest.mark.thorough) for one in (">&-", "2>&-"))],
)
def test_streams_that_somebody_has_closed(finished: Finished, tmp_path: Path, closed: str) -> None:
    """A run goes on to its end."""
    settings = " ".join(("--set", *BRIEF))
    command = f"{sys.executable} -m minispike distill --out {tmp_path / 'run'} {settings}"
    line = f"{{ {command} ; echo $? > {tmp_path / 'code'} ; }} {closed}" if "|" in closed else f"{command} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300)
    code = (tmp_path / "code").read_text().strip() if "|" in closed else str(done.returncode)
    assert code == "0", done
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_main_takes_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["minispike", "--version"])
    assert main() == 0
