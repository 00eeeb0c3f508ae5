"""The list of mutations still fits the code: each can be made, in one place, and leaves Python that compiles."""

from collections import Counter

import pytest
from mutation.edits import DESELECTED, EDITS, ROOT, SUBSETS, Edit, subset


def test_there_are_many_and_none_twice() -> None:
    names = [edit.name for edit in EDITS]
    assert len(set(names)) == len(names) >= 150
    files = Counter(edit.file for edit in EDITS)
    assert len(files) >= 20 and max(files.values()) < len(EDITS) / 5


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.file}-{edit.why}")
def test_a_mistake_can_be_made_in_one_place(edit: Edit) -> None:
    compile(edit.applied((ROOT / edit.file).read_text()), edit.file, "exec")


def test_text_that_is_not_there_once_is_refused() -> None:
    for old, new in (("b", "x"), ("a", "x"), ("c", "c")):
        with pytest.raises(ValueError, match="must once"):
            Edit("file", old, new, "").applied("a a c")


def test_every_subset_is_there() -> None:
    assert all(any(edit.file.startswith(start) for edit in EDITS) for start in SUBSETS)
    named = {argument for edit in EDITS for argument in subset(edit.file) if argument[0] != "-"}
    files = named | {test.partition("::")[0] for test in DESELECTED}
    assert {file for file in files if not (ROOT / file).is_file()} == set()
