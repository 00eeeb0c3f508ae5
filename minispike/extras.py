"""The libraries that only teachers and their files need, imported when they are first used."""

from importlib import import_module
from typing import Any

from minispike.errors import TeacherError, problem


def extra(name: str) -> Any:
    """The module ``name``, one of those that come with ``pip install "minispike[distill]"``.

    Raises:
        TeacherError: it is not installed, or does not import; the original error stands behind it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise TeacherError(
            problem(name, expected="an installed library", got=str(error), hint='pip install "minispike[distill]"')
        ) from error
