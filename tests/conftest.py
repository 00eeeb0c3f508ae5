"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest
from tiny import finished

__all__ = ["finished", "shared"]


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
