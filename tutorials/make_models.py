"""The models that ship with the lessons: ``python -m tutorials.make_models`` trains them again, in five minutes.

A run of ``minispike distill`` on the built-in corpus makes all three: a BERT that has guessed hidden words (lesson 09
distils from it), the same BERT fine-tuned on the reviews (lessons 08 and 10), and a small spiking student (lessons 11
to 13). The BERTs are stored in half precision, which halves their files.

    python -m tutorials.make_models              into tutorials/models, by a run in a temporary folder
    python -m tutorials.make_models --run RUN    by a run that is kept there, or taken from there if it is finished
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from minispike.config import preset
from minispike.files import atomic_write
from minispike.models.bert import BertConfig
from minispike.models.bert_folder import write_bert_folder
from minispike.pipeline import distill
from minispike.runfolder import CONFIG, FINETUNED, MODEL, PRETRAINED, STATE, TOKENIZER, load_teacher
from teachers.source import OnnxTeachers

FOLDER = Path(__file__).parent / "models"

BERTS = {"bert-pretrained": (PRETRAINED, None), "bert-finetuned": (FINETUNED, ("negative", "positive"))}
"""Their folders, where they lie in a run, and the names of their labels."""


def take(run: Path, out: Path) -> None:
    """Copy the models of a finished run."""
    for name, (where, labels) in BERTS.items():
        weights, notes = load_teacher(run, where)
        write_bert_folder(BertConfig.of(notes["config"]), weights, run / TOKENIZER, out / name, label_names=labels)
        file = out / name / "model.safetensors"
        halves = {key: value.astype(np.float16) for key, value in load_file(file).items()}
        with atomic_write(file, "wb") as target:
            target.write(save(halves, metadata={"format": "pt"}))
    (out / "student").mkdir(exist_ok=True)
    for name in (CONFIG, STATE, MODEL, TOKENIZER):
        shutil.copyfile(run / name, out / "student" / name)


def main(words: Sequence[str] | None = None) -> int:
    """Train, and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of the run; default: a temporary one")
    args = parser.parse_args(words)
    config = preset("tiny")
    config = replace(config, direct=False, student=replace(config.student, dim=64))
    with tempfile.TemporaryDirectory() as temporary:
        run = args.run or Path(temporary) / "run"
        distill(config, run, OnnxTeachers(), resume=(run / CONFIG).is_file())
        take(run, FOLDER)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
