"""A corpus in files, for the tests of what is read from it."""

from collections.abc import Sequence
from pathlib import Path

from minispike.config import DataConfig


def write(folder: Path, train: Sequence[str], dev: Sequence[str], test: Sequence[str], header: str) -> DataConfig:
    """Three TSV files in a folder, and the settings that read them."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        (folder / f"{name}.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return DataConfig(path=str(folder))
