"""The last phases of a run: what its student costs, and the report that tells everything."""

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from minispike.backend import asarray
from minispike.data.text import Examples
from minispike.errors import warn
from minispike.files import atomic_write
from minispike.ledger import EnergyReport
from minispike.loaded import LoadedRun, load
from minispike.record import record_sentence
from minispike.records import as_record, read_record
from minispike.report import ModelResult, ReportContent, write_report
from minispike.runfolder import ENERGY, METRICS, REPORT, Facts, RunFolder, restored_or_anew
from minispike.settings import to_toml
from minispike.train.journal import Journal

SENTENCES = 200
"""The most test sentences that energy and firing rates are measured on."""

SHOWN_LENGTH = range(8, 15)
"""Tokens of the sentence whose spikes are shown, ``[CLS]`` and ``[SEP]`` included."""

_NOTES = {
    "majority class": "the most frequent label of the training set",
    "bag of words": "softmax regression on words, whatever their order",
    "student": "spiking, distilled in two stages",
    "direct": "the same network, trained on the labels alone for as many steps",
}

_UNCOUNTED = "the energy of the teacher is not counted: its ONNX graph does not tell the sizes of a BERT"


@dataclass(frozen=True)
class _Measured:
    """``energy.json``."""

    energy: EnergyReport
    rates: dict[str, float]


class _Line(TypedDict):
    """One of the journal."""

    phase: str
    step: int


def measure(run: RunFolder, test: Examples) -> Facts:
    """Energy and firing rates of the student on up to `SENTENCES` test sentences; kept in ``energy.json``.

    Args:
        run: whose student is trained.
        test: the test set; the sentences are taken evenly from all of it.

    Returns:
        The sums of the ledgers, in mJ a sentence, and what the student costs relative to the others.
    """
    began = time.monotonic()
    count = min(SENTENCES, len(test))
    chosen = test.subset(np.arange(count) * len(test) // count)
    loaded = load(run.path)
    energy = loaded.energy(chosen.texts, chosen.pairs)
    rates = loaded.firing_rates(chosen.texts, chosen.pairs)
    with atomic_write(run.path / ENERGY) as file:
        json.dump({"energy": energy.to_mapping(), "rates": rates}, file, indent=1)
    if energy.teacher is None:
        warn(f"energy: {_UNCOUNTED}")
    facts: Facts = {"sentences": energy.sentences, "tokens": energy.tokens}
    for name, ledger in (("student", energy.student), ("twin", energy.twin), ("teacher", energy.teacher)):
        if ledger is not None:
            facts[name] = {
                "total_mj": ledger.total_mj,
                "matrix_mj": ledger.matrix_mj,
                "student_share": energy.student.total_mj / ledger.total_mj,
                "student_matrix_share": energy.student.matrix_mj / ledger.matrix_mj,
            }
    return facts | {"seconds": time.monotonic() - began}


def report(run: RunFolder, test: Examples) -> Facts:
    """Write ``report.html`` from what is on record, with the spikes of one test sentence.

    Args:
        run: whose other phases are done.
        test: the test set, of which the sentence is taken.
    """
    began = time.monotonic()
    done, loaded = run.state["done"], load(run.path)
    hint = restored_or_anew(run.path)
    measured = read_record(run.path / ENERGY, _Measured, what="the energy of a student", hint=hint)
    ids = _shown_sentence(loaded, test)
    timings = {phase: facts["seconds"] for phase, facts in done.items() if "seconds" in facts}
    uncounted = [_UNCOUNTED] if measured.energy.teacher is None else []
    content = ReportContent(
        title=f"minispike: {Path(run.config.data.path).name or 'built-in reviews'}",
        config_text=to_toml(run.config),
        results=tuple(
            ModelResult(name, **figures, note=_note(name, done))
            for name, figures in done["evaluation"]["table"].items()
        ),
        curves=_curves(run.path / METRICS),
        rates=measured.rates,
        sentence=tuple(loaded.tokenizer.token(int(i)) for i in ids),
        recording=record_sentence(loaded.model, asarray(ids)),
        energy=measured.energy,
        notes=(*done["texts"]["notes"], *done["evaluation"]["notes"], *uncounted, _machine(run)),
        timings=timings,
    )
    write_report(run.path / REPORT, content)
    return {"seconds": time.monotonic() - began}


def _shown_sentence(loaded: LoadedRun, test: Examples) -> Any:
    """The token ids ``[L]`` of the first sentence of a length that can be shown, or of the nearest to it."""
    encoded = loaded.encode(test.texts, test.pairs)
    low, high = SHOWN_LENGTH[0], SHOWN_LENGTH[-1]
    distance = np.abs(encoded.lengths - np.clip(encoded.lengths, low, high))
    return encoded.ids[int(distance.argmin())].astype(np.int64)


def _curves(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of the journal by phase."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(Journal.read(path), start=1):
        place = Path(f"{path}:{number}")
        as_record(line, _Line, place, what="a line of the journal", hint="removing the line")
        curves.setdefault(line["phase"], []).append(line)
    return curves


def _note(name: str, done: Mapping[str, Facts]) -> str:
    if name != "teacher":
        return _NOTES.get(name, "")
    sizes = [facts["parameters"] for facts in done.values() if "parameters" in facts]
    return f"BERT of {sizes[-1]:,} parameters" if sizes else "a given ONNX model"


def _machine(run: RunFolder) -> str:
    """Seed and machine, without which no time and no figure can be judged."""
    system = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"seed {run.config.seed}; backend {run.config.backend}; {versions}; {system}"
