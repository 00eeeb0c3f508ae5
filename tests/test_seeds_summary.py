"""What several seeds have come to, on the terminal and in ``summary.json``."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import MODELS, Outcome, distill, interrupt, minispike

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

from minispike.seeds import spread, summarise

Finished = tuple[Path, Outcome]


def facts(accuracy: float, share: float, **more: Any) -> dict[str, Any]:
    """The results of a run, as far as they are summed up."""
    shares = {"student_share": share, "student_matrix_share": share / 2}
    table = {"student": {"accuracy": accuracy, "low": 0.0, "high": 1.0, "macro_f1": accuracy - 0.1}}
    energy = {"sentences": 3, "student": shares, "twin": shares, **more}
    return {"evaluation": {"table": table}, "energy": energy}


def test_spread_is_the_sample_standard_deviation() -> None:
    found = spread([0.7, 0.8, 0.9])
    assert (found["mean"], found["standard_deviation"]) == pytest.approx((0.8, 0.1))
    assert spread([0.7]) == {"values": [0.7], "mean": 0.7, "standard_deviation": 0.0}


def test_every_figure_of_every_seed() -> None:
    found = summarise({4: facts(0.7, 0.2), 5: facts(0.9, 0.4)})
    assert found["seeds"] == [4, 5]
    assert found["models"]["student"].keys() == {"accuracy", "macro_f1"}
    assert found["models"]["student"]["macro_f1"]["values"] == pytest.approx([0.6, 0.8])
    assert found["energy"].keys() == {"twin"}
    assert found["energy"]["twin"]["student_share"]["mean"] == pytest.approx(0.3)
    assert found["energy"]["twin"]["student_matrix_share"]["standard_deviation"] == pytest.approx(0.1 / 2**0.5)


def test_a_teacher_is_summed_up_where_all_seeds_know_its_shape() -> None:
    known = facts(0.7, 0.2, teacher={"student_share": 0.1, "student_matrix_share": 0.1})
    assert summarise({0: known, 1: known})["energy"].keys() == {"twin", "teacher"}
    assert summarise({0: known, 1: facts(0.7, 0.2)})["energy"].keys() == {"twin"}


def test_the_summary_is_told_and_kept(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both seeds are copies of one finished run, but for their figures."""
    out = tmp_path / "seeds"
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain teacher", step=0)
        assert distill(out, flags=["--seeds", 2]).code == 130
    assert not (out / "summary.json").exists()
    for seed in (0, 1):
        shutil.rmtree(out / f"seed-{seed}", ignore_errors=True)
        shutil.copytree(finished[0], out / f"seed-{seed}")
    state = json.loads((out / "seed-1" / "state.json").read_text(encoding="utf-8"))
    for figures in state["done"]["evaluation"]["table"].values():
        figures["accuracy"] /= 2
    state["done"]["energy"]["twin"]["student_share"] /= 2
    (out / "seed-1" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    outcome = minispike("distill", "--resume", out)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith(f"summary: {out / 'summary.json'}\n")

    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["seeds"] == [0, 1]
    assert tuple(summary["models"]) == MODELS and tuple(summary["energy"]) == ("twin", "teacher")
    quality, energy = outcome.out.split("2 seeds\n")[1].split("\n\n")
    told = quality.splitlines()[1:] + energy.splitlines()[1:-1]
    groups = [*summary["models"].values(), *summary["energy"].values()]
    for line, figures in zip(told, groups, strict=True):
        cells = [figure[name] for figure in figures.values() for name in ("mean", "standard_deviation")]
        assert line.split()[-8:] == [word for cell in cells for word in (f"{100 * cell:.2f}", "%")]
        for figure in figures.values():
            assert figure["mean"] == pytest.approx(np.mean(figure["values"]))
            assert figure["standard_deviation"] == pytest.approx(np.std(figure["values"], ddof=1))
    before = (out / "summary.json").read_bytes()
    assert minispike("distill", "--resume", out).out == outcome.out
    assert (out / "summary.json").read_bytes() == before
