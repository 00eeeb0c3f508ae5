"""Fixtures that several test files use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tiny import finished

settings.register_profile("untimed", deadline=None)  # speed is measured by benchmarks, on machines that are idle
settings.load_profile("untimed")

__all__ = ["finished", "own_cache", "shared"]


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
