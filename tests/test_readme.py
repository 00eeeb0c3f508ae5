"""What the README shows works."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.startswith("firing rates [0. ")
    error = float(printed.rsplit(maxsplit=1)[1])
    assert error < 1e-6


def test_every_command_of_the_table_exists() -> None:
    from minispike.cli import main

    commands = set(re.findall(r"^\| `minispike (\w+)", README.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert commands == {"distill", "teacher", "evaluate", "predict", "energy", "gradcheck", "profile", "doctor"}
    for command in commands:
        assert main([command, "--help"]) == 0


def test_files_the_readme_names_exist() -> None:
    text = README.read_text(encoding="utf-8")
    for name in [*re.findall(r"\]\(([\w/.]+)\)", text), "CONTRIBUTING.md", "LICENSE"]:
        assert (README.parent / name).is_file(), name
