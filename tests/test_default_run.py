"""The run that a newcomer starts, twice in processes of their own: what it comes to, and that it is the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import results

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two default runs of one seed, with caches of their own and in another order of what is hashed."""
    folders = []
    for name, hashing in (("first", "0"), ("second", "1")):
        folder = tmp_path_factory.mktemp(name)
        environment = os.environ | {"MINISPIKE_CACHE": str(folder / "cache"), "PYTHONHASHSEED": hashing}
        command = [sys.executable, "-m", "minispike", "distill", "--seed", "1", "--out", str(folder / "run")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        folders.append(folder / "run")
    return folders


def test_the_same_numbers_to_the_last_bit(runs: list[Path]) -> None:
    """The weights of every phase, the journal, the tables, and the energy."""
    first, second = (results(run) for run in runs)
    assert first.keys() == second.keys()
    for name, found in first.items():
        assert found == second[name], name
    assert len(first["metrics"]) > 1000


def test_what_it_comes_to(runs: list[Path]) -> None:
    done = results(runs[0])["state"]["done"]
    accuracy = {name: figures["accuracy"] for name, figures in done["evaluation"]["table"].items()}
    assert accuracy["bag of words"] < 0.75
    assert accuracy["teacher"] >= 0.95
    assert accuracy["student"] >= max(0.90, accuracy["direct"] + 0.02)
    assert done["energy"]["twin"]["student_share"] <= 0.35
