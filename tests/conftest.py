"""Fixtures that several test files use."""

import os
from collections.abc import Iterator
from pathlib import Path

import every_backend
import pytest
from every_backend import array_backend
from hypothesis import settings
from tiny import finished, finished_runs, quick_report

settings.register_profile("untimed", deadline=None)  # speed is measured by benchmarks, on machines that are idle
settings.load_profile("untimed")

__all__ = ["array_backend", "finished", "finished_runs", "own_cache", "quick_report", "shared"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs on every backend that `every_backend` has for its file."""
    if backends := every_backend.parameters(metafunc.module.__name__.removeprefix("test_")):
        metafunc.parametrize("array_backend", backends, indirect=True, scope="module")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The teachers' answers of all tests, those of second processes too, go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINISPIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and recorded numbers: ``MINISPIKE_SHARED``, or ``../shared`` by the checkout.

    Where it is missing, a test that asks for it is skipped, or fails if ``MINISPIKE_REQUIRE_SHARED`` is 1.
    """
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MINISPIKE_SHARED") or default)
    if not folder.is_dir():
        reason = f"needs the shared data, and {folder} is no folder; set MINISPIKE_SHARED"
        if os.environ.get("MINISPIKE_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
